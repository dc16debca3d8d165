/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing sandboxes to rest and going on with them: /pause, /connect, /resume. A client that goes
 * away ends nothing of it. Of a running sandbox /connect only moves the deadline later; a timeout
 * of null, which E2B does not have, means no deadline.
 */
#include "api/api-internal.h"
#include "api/body.h"
#include "api/late-reply.h"
#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

enum { CONNECT_TIMEOUT_S = 300, RESUME_TIMEOUT_S = 15 };

/* A call whose body is there, and then its answer to come. */
struct rest_call {
	struct api *api;
	struct sandbox *sb;
	struct late_reply *late;
	bool memory;
	bool no_deadline;
	int64_t timeout_s;
	bool only_paused; /* it is an error that the sandbox runs already */
	int sets_pause;   /* 1 = what becomes of it at its deadline changes, too; 0 = it stays */
	bool auto_pause;
};

static int read_memory(const json_t *body, bool *out, struct err *e)
{
	*out = true;
	return MIN(body_bool(body, "memory", out, e), 0);
}

static void on_paused(struct sandbox *sb, const struct err *e, void *arg)
{
	(void)sb;
	late_reply_end(arg, e);
}

static int start_pause(struct http_exchange *x, struct sandbox *sb, bool memory, struct err *e)
{
	struct late_reply *late = late_reply_new(x);
	int r = memory ? sandbox_pause(sb, on_paused, late, e)
		       : sandbox_stop(sb, on_paused, late, e);

	if (r < 0)
		late_reply_take(late);
	return r;
}

static void pause_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	auto_json *body = NULL;
	struct err e = { 0 };
	struct sandbox *sb = api_find(arg, x, &e);
	bool memory = true;

	if (sb == NULL || body_object(text, n, true, &body, &e) < 0 ||
	    read_memory(body, &memory, &e) < 0 || start_pause(x, sb, memory, &e) < 0)
		reply_error(x, &e);
}

void sandboxes_pause(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, pause_body, arg);
}

/* A running sandbox's deadline only ever moves later. */
static int extend(const struct rest_call *c, struct sandbox *sb, struct err *e)
{
	uint64_t now_end = sandbox_row(sb)->end_ms;
	uint64_t end = clock_realtime_ms() + (uint64_t)c->timeout_s * MS_PER_S;

	if (c->no_deadline)
		return sandbox_set_deadline(sb, 0, e);
	if (now_end == 0 || now_end >= end)
		return 0;
	return sandbox_set_deadline(sb, end, e);
}

static void on_resumed(struct sandbox *sb, bool resumed, const struct err *e, void *arg)
{
	struct rest_call c = *(struct rest_call *)arg;
	struct http_exchange *x = late_reply_take(c.late);
	struct err ours = { 0 };

	free(arg);
	if (e == NULL && !resumed && c.only_paused)
		err_set(&ours, ERR_CONFLICT, "sandbox %s is running already", sandbox_id(sb));
	else if (e == NULL && !resumed)
		ignore_err(extend(&c, sb, &ours)); /* told below, as the next one */
	else if (e == NULL && c.sets_pause > 0)
		ignore_err(sandbox_set_auto_pause(sb, c.auto_pause, &ours));
	if (x == NULL)
		return;
	if (e != NULL || err_is_set(&ours))
		reply_error(x, e != NULL ? e : &ours);
	else
		reply_json(x, resumed ? 201 : 200, NULL, json_of_sandbox(c.api, sb));
}

static int start_resume(struct http_exchange *x, const struct rest_call *wanted, struct err *e)
{
	struct rest_call *c = xcalloc(1, sizeof(*c));
	uint64_t timeout_s = wanted->no_deadline ? 0 : (uint64_t)wanted->timeout_s;
	int r;

	*c = *wanted;
	c->late = late_reply_new(x);
	r = sandbox_resume(c->sb, c->memory, timeout_s, on_resumed, c, e);
	if (r < 0) {
		late_reply_take(c->late);
		free(c);
	}
	return r;
}

static int read_timeout(const json_t *body, bool required, struct rest_call *c, struct err *e)
{
	int r = body_int(body, "timeout", 1, &c->timeout_s, e);

	c->no_deadline = body_is_null(body, "timeout");
	if (r == 0 && required && !c->no_deadline)
		return err_set(e, ERR_INVALID, "field 'timeout' is missing");
	return r < 0 ? r : 0;
}

static void wake(struct http_exchange *x, const char *text, size_t n, bool required,
		 struct rest_call *c)
{
	auto_json *body = NULL;
	struct err e = { 0 };

	c->sb = api_find(c->api, x, &e);
	if (c->sb == NULL || body_object(text, n, true, &body, &e) < 0 ||
	    read_timeout(body, required, c, &e) < 0 || read_memory(body, &c->memory, &e) < 0 ||
	    start_resume(x, c, &e) < 0)
		reply_error(x, &e);
}

static void connect_v1_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	struct rest_call c = { .api = arg, .timeout_s = CONNECT_TIMEOUT_S };

	wake(x, text, n, true, &c);
}

static void connect_v2_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	struct rest_call c = { .api = arg, .timeout_s = CONNECT_TIMEOUT_S };

	wake(x, text, n, false, &c);
}

/* Deprecated, and the one call that has it; but who asks for it gets it. */
static int read_auto_pause(const char *text, size_t n, struct rest_call *c, struct err *e)
{
	auto_json *body = NULL;
	int r = body_object(text, n, true, &body, e);

	if (r == 0)
		r = c->sets_pause = body_bool(body, "autoPause", &c->auto_pause, e);
	return MIN(r, 0);
}

static void resume_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	struct rest_call c = { .api = arg, .timeout_s = RESUME_TIMEOUT_S, .only_paused = true };
	struct err e = { 0 };

	if (read_auto_pause(text, n, &c, &e) < 0)
		reply_error(x, &e);
	else
		wake(x, text, n, false, &c);
}

void sandboxes_connect_v1(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, connect_v1_body, arg);
}

void sandboxes_connect_v2(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, connect_v2_body, arg);
}

void sandboxes_resume(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, resume_body, arg);
}
