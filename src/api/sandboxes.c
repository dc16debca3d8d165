/* SPDX-License-Identifier: Apache-2.0 */
/* /sandboxes and /v2/sandboxes: create, get, delete, console. */
#include "api/api-internal.h"
#include "api/create-request.h"
#include "api/late-reply.h"
#include "base/str.h"

#include <stdlib.h>

/* A create under way. */
struct creation {
	struct api *api;
	struct late_reply *late;
	struct sandbox_id id;
};

/* Nobody has learnt the id of a sandbox whose creator went away. */
static void on_creator_gone(void *arg)
{
	struct creation *c = arg;

	sandbox_cancel_create(c->api->m, &c->id);
}

static void on_created(struct sandbox *sb, const struct err *e, void *arg)
{
	struct creation *c = arg;
	struct http_exchange *x = late_reply_take(c->late);
	const struct api *api = c->api;

	free(c);
	if (x == NULL)
		return;
	if (e != NULL)
		reply_error(x, e);
	else
		reply_json(x, 201, NULL, json_of_sandbox(api, sb));
}

/* Takes @spec's strings when it succeeds. */
static int start_create(struct http_exchange *x, struct api *api, struct db_sandbox *spec,
			struct err *e)
{
	struct creation *c = xcalloc(1, sizeof(*c));
	int r;

	c->api = api;
	r = sandbox_create(api->m, spec, on_created, c, &c->id, e);
	if (r < 0) {
		free(c);
		return r;
	}
	c->late = late_reply_new(x);
	late_reply_on_gone(c->late, on_creator_gone, c);
	return 0;
}

static void create(struct http_exchange *x, const char *body, size_t n, struct api *api, bool v2)
{
	struct db_sandbox spec;
	struct err e = { 0 };

	db_sandbox_init(&spec);
	if (create_request_parse(body, n, v2, &spec, &e) < 0 || start_create(x, api, &spec, &e) < 0)
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
		reply_json(x, 200, NULL, json_of_detail(arg, sb));
}

static void on_destroyed(const struct err *e, void *arg)
{
	late_reply_end(arg, e);
}

void sandboxes_delete(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct sandbox *sb = find_or_reply(api, x, p);

	if (sb != NULL)
		sandbox_destroy(sb, on_destroyed, late_reply_new(x));
}

void sandboxes_console(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct sandbox *sb = find_or_reply(arg, x, p);
	auto_free char *text = sb == NULL ? NULL : sandbox_console(sb);

	if (sb != NULL)
		reply_bytes(x, 200, NULL, "text/plain; charset=utf-8", text, strlen(text));
}
