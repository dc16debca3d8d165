/* SPDX-License-Identifier: Apache-2.0 */
/* /sandboxes and /v2/sandboxes: create, get, delete, console. */
#include "api/api-internal.h"
#include "api/create-request.h"
#include "base/str.h"

#include <stdlib.h>

/* A reply that comes later, when the exchange may be gone. */
struct pending {
	struct api *api;
	struct http_exchange *x; /* NULL once it is closed */
	struct sandbox_id id;    /* of the create */
	bool creating;
};

static void on_pending_close(struct http_exchange *x, bool complete, void *arg)
{
	struct pending *p = arg;

	(void)x;
	(void)complete;
	p->x = NULL;
	/* Nobody has learnt the id of a sandbox whose creator went away. */
	if (p->creating)
		sandbox_cancel_create(p->api->m, &p->id);
}

static const struct http_exchange_events pending_events = { .on_close = on_pending_close };

static struct pending *pending_new(struct api *api, struct http_exchange *x)
{
	struct pending *p = xcalloc(1, sizeof(*p));

	p->api = api;
	p->x = x;
	http_exchange_bind(x, &pending_events, p);
	return p;
}

/* Unbinds: the exchange ends without telling @p, which is freed. */
static struct http_exchange *pending_take(struct pending *p)
{
	static const struct http_exchange_events nothing = { 0 };
	struct http_exchange *x = p->x;

	if (x != NULL)
		http_exchange_bind(x, &nothing, NULL);
	free(p);
	return x;
}

static void on_created(struct sandbox *sb, const struct err *e, void *arg)
{
	struct http_exchange *x = pending_take(arg);

	if (x == NULL)
		return;
	if (e != NULL)
		reply_error(x, e);
	else
		reply_json(x, 201, NULL, json_of_sandbox(sb));
}

static void create(struct http_exchange *x, const char *body, size_t n, struct api *api, bool v2)
{
	struct db_sandbox spec;
	struct pending *p;
	struct err e = { 0 };
	int r;

	db_sandbox_init(&spec);
	r = create_request_parse(body, n, v2, &spec, &e);
	if (r == 0) {
		p = pending_new(api, x);
		r = sandbox_create(api->m, &spec, on_created, p, &p->id, &e);
		p->creating = r == 0;
		if (r < 0)
			pending_take(p);
	}
	if (r < 0)
		reply_error(x, &e);
	db_sandbox_done(&spec);
}

static void create_v1_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	create(x, body, n, arg, false);
}

static void create_v2_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	create(x, body, n, arg, true);
}

void sandboxes_create_v1(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, create_v1_body, arg);
}

void sandboxes_create_v2(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, create_v2_body, arg);
}

static struct sandbox *find_or_reply(struct api *api, struct http_exchange *x,
				     const struct route_params *p)
{
	struct err e = { 0 };
	struct sandbox *sb = manager_find(api->m, p->at[0], &e);

	if (sb == NULL)
		reply_error(x, &e);
	return sb;
}

void sandboxes_get(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct sandbox *sb = find_or_reply(arg, x, p);

	if (sb != NULL)
		reply_json(x, 200, NULL, json_of_detail(sb));
}

static void on_destroyed(const struct err *e, void *arg)
{
	struct http_exchange *x = pending_take(arg);

	if (x == NULL)
		return;
	if (e != NULL)
		reply_error(x, e);
	else
		reply_empty(x);
}

void sandboxes_delete(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct sandbox *sb = find_or_reply(api, x, p);

	if (sb != NULL)
		sandbox_destroy(sb, on_destroyed, pending_new(api, x));
}

void sandboxes_console(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct sandbox *sb = find_or_reply(arg, x, p);
	auto_free char *text = sb == NULL ? NULL : sandbox_console(sb);

	if (sb != NULL)
		reply_bytes(x, 200, NULL, "text/plain; charset=utf-8", text, strlen(text));
}
