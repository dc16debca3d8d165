/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a sandbox lives: /timeout sets its deadline, /refreshes only ever moves it
 * later. A timeout of null, which E2B does not have, means no deadline. /ping, ours, says that the
 * sandbox is wanted and moves nothing: whatever counts idle time starts anew from there.
 */
#include "api/api-internal.h"
#include "api/body.h"
#include "base/clock.h"

#include <errno.h>
#include <limits.h>

enum { REFRESH_LEAST_S = 15, REFRESH_MOST_S = 3600 };

/* The sandbox of a call that has a body, looked up again when the body is there: it may be gone. */
struct call {
	struct api *api;
	struct http_exchange *x;
	struct sandbox *sb;
	json_t *body; /* owned */
	struct err e;
};

static void call_done(struct call *c)
{
	json_decref(c->body);
}

static uint64_t from_now(int64_t seconds)
{
	return clock_realtime_ms() + (uint64_t)seconds * MS_PER_S;
}

static int set_timeout(struct call *c)
{
	int64_t seconds = 0;
	int r;

	if (body_is_null(c->body, "timeout"))
		return sandbox_set_deadline(c->sb, 0, &c->e);
	r = body_int(c->body, "timeout", INT_MIN, &seconds, &c->e);
	if (r == 0)
		return err_set(&c->e, ERR_INVALID, "field 'timeout' is missing");
	return r < 0 ? r : sandbox_set_deadline(c->sb, from_now(seconds > 0 ? seconds : 0), &c->e);
}

static int extend(struct call *c, int64_t seconds)
{
	uint64_t now_end = sandbox_row(c->sb)->end_ms;
	uint64_t end = from_now(seconds);

	if (now_end == 0 || now_end >= end)
		return sandbox_check_running(c->sb, &c->e);
	return sandbox_set_deadline(c->sb, end, &c->e);
}

static int refresh(struct call *c)
{
	int64_t seconds = REFRESH_LEAST_S;
	int r = body_int(c->body, "duration", 0, &seconds, &c->e);

	if (r >= 0 && seconds > REFRESH_MOST_S)
		r = err_set(&c->e, ERR_INVALID, "field 'duration' must be at most %d",
			    REFRESH_MOST_S);
	return r < 0 ? r : extend(c, MAX(seconds, (int64_t)REFRESH_LEAST_S));
}

/* Finds sandbox and body of a request whose body is complete. Return: 0; -errno, c->e set. */
static int open_call(struct call *c, const char *body, size_t n)
{
	struct route_params params;
	const struct http_head *head = http_exchange_head(c->x);

	if (api_params(head, &params) < 0)
		return err_set(&c->e, ERR_NOT_FOUND, "no endpoint %s", head->path);
	c->sb = manager_find(c->api->m, params.at[0], &c->e);
	return c->sb == NULL ? -ENOENT : body_object(body, n, true, &c->body, &c->e);
}

static void timeout_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	cleanup(call_done) struct call c = { .api = arg, .x = x };

	if (open_call(&c, body, n) < 0 || set_timeout(&c) < 0)
		reply_error(x, &c.e);
	else
		reply_empty(x);
}

static void refreshes_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	cleanup(call_done) struct call c = { .api = arg, .x = x };

	if (open_call(&c, body, n) < 0 || refresh(&c) < 0)
		reply_error(x, &c.e);
	else
		reply_empty(x);
}

void sandboxes_timeout(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, timeout_body, arg);
}

void sandboxes_refreshes(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, refreshes_body, arg);
}

void sandboxes_ping(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct err e = { 0 };
	struct sandbox *sb = manager_find(api->m, p->at[0], &e);

	if (sb == NULL || sandbox_check_running(sb, &e) < 0) {
		reply_error(x, &e);
		return;
	}
	sandbox_touch(sb);
	reply_empty(x);
}
