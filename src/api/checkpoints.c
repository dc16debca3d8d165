/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox's checkpoints: made, listed, deleted, and gone back to (ours; E2B has no word for
 * them). A client that goes away ends nothing of it.
 */
#include "sandbox/checkpoints.h"
#include "api/api-internal.h"
#include "api/body.h"
#include "api/late-reply.h"
#include "base/clock.h"
#include "base/parse.h"
#include "base/str.h"

#include <errno.h>

enum { ROLLBACK_TIMEOUT_S = 300 };

static json_t *json_of_checkpoint(const struct checkpoint *c)
{
	return json_pack("{s:I, s:I, s:b, s:o, s:i, s:I, s:I, s:I}", "generation",
			 (json_int_t)c->generation, "parent", (json_int_t)c->parent, "kept",
			 c->kept, "createdAt", json_of_time(c->created_ms), "cpus", c->cpus,
			 "memoryMB", (json_int_t)c->memory_mib, "diskSizeMB",
			 (json_int_t)c->disk_mib, "memoryBytes", (json_int_t)c->memory.file_bytes);
}

static json_t *json_of_taken(const struct taken *t)
{
	json_t *o = json_of_checkpoint(&t->checkpoint);
	auto_json *times = json_pack("{s:f, s:f, s:f}", "stallMs", (double)t->stall_ns / NS_PER_MS,
				     "freezeMs", (double)t->freeze_ns / NS_PER_MS, "totalMs",
				     (double)t->total_ns / NS_PER_MS);

	ignore_err(json_object_update(o, times)); /* without memory they are missing */
	return o;
}

static void on_made(struct sandbox *sb, const struct taken *t, const struct err *e, void *arg)
{
	struct http_exchange *x = late_reply_take(arg);

	(void)sb;
	if (x == NULL)
		return;
	if (e != NULL)
		reply_error(x, e);
	else
		reply_json(x, 201, NULL, json_of_taken(t));
}

static void create_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	auto_json *body = NULL;
	struct err e = { 0 };
	struct sandbox *sb = api_find(arg, x, &e);
	struct late_reply *late;

	if (sb == NULL || body_object(text, n, true, &body, &e) < 0) {
		reply_error(x, &e);
		return;
	}
	late = late_reply_new(x);
	if (sandbox_checkpoint(sb, on_made, late, &e) < 0) {
		late_reply_take(late);
		reply_error(x, &e);
	}
}

void checkpoints_create(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, create_body, arg);
}

static json_t *json_of_view(const struct checkpoint_view *view)
{
	json_t *o;

	if (err_is_set(&view->fault))
		return json_pack("{s:I, s:o}", "generation",
				 (json_int_t)view->checkpoint.generation, "error",
				 json_of_text(view->fault.msg));
	o = json_of_checkpoint(&view->checkpoint);
	ignore_err(json_object_set_new(o, "allocatedBytes",
				       json_integer((json_int_t)view->allocated_bytes)));
	return o;
}

static void on_listed(const struct checkpoint_views *views, const struct err *e, void *arg)
{
	struct http_exchange *x = late_reply_take(arg);
	json_t *all;

	if (x == NULL)
		return;
	if (e != NULL) {
		reply_error(x, e);
		return;
	}
	all = json_array();
	vec_foreach (view, views)
		ignore_err(json_array_append_new(all, json_of_view(view)));
	reply_json(x, 200, NULL, all);
}

void checkpoints_list(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct err e = { 0 };
	struct sandbox *sb = manager_find(api->m, p->at[0], &e);
	struct late_reply *late;

	if (sb == NULL) {
		reply_error(x, &e);
		return;
	}
	late = late_reply_new(x);
	if (sandbox_checkpoints(sb, on_listed, late, &e) < 0) {
		late_reply_take(late);
		reply_error(x, &e);
	}
}

static void on_deleted(struct sandbox *sb, const struct err *e, void *arg)
{
	(void)sb;
	late_reply_end(arg, e);
}

static int parse_generation(const char *text, uint64_t *out, struct err *e)
{
	if (parse_u64(text, 1, INT64_MAX, out) == 0)
		return 0;
	return err_set(e, ERR_NOT_FOUND, "no checkpoint '%s'; the list shows their numbers", text);
}

void checkpoints_delete(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct err e = { 0 };
	struct sandbox *sb = manager_find(api->m, p->at[0], &e);
	struct late_reply *late;
	uint64_t generation;

	if (sb == NULL || parse_generation(p->at[1], &generation, &e) < 0) {
		reply_error(x, &e);
		return;
	}
	late = late_reply_new(x);
	if (sandbox_checkpoint_remove(sb, generation, on_deleted, late, &e) < 0) {
		late_reply_take(late);
		reply_error(x, &e);
	}
}

static void on_back(struct sandbox *sb, bool resumed, const struct err *e, void *arg)
{
	const struct api *api = late_reply_api(arg);
	struct http_exchange *x = late_reply_take(arg);

	(void)resumed;
	if (x == NULL)
		return;
	if (e != NULL)
		reply_error(x, e);
	else
		reply_json(x, 201, NULL, json_of_sandbox(api, sb));
}

/* A running sandbox's deadline stays; any other gets one, as by connect. */
static int read_timeout(const json_t *body, const struct sandbox *sb, int64_t *out, bool *out_given,
			struct err *e)
{
	int r;

	*out = ROLLBACK_TIMEOUT_S;
	r = body_int(body, "timeout", 1, out, e);
	if (body_is_null(body, "timeout"))
		*out = 0;
	*out_given = r > 0 || body_is_null(body, "timeout") || sandbox_row(sb)->state != DB_RUNNING;
	return r < 0 ? r : 0;
}

static int start_back(struct http_exchange *x, struct api *api, struct sandbox *sb,
		      const json_t *body, struct err *e)
{
	struct late_reply *late;
	int64_t generation = 0;
	int64_t timeout_s;
	uint64_t given_s;
	bool given;
	int r = body_int(body, "generation", 1, &generation, e);

	if (r >= 0)
		r = read_timeout(body, sb, &timeout_s, &given, e);
	if (r < 0)
		return r;
	given_s = (uint64_t)timeout_s;
	late = late_reply_for(x, api);
	r = sandbox_rollback(sb, (uint64_t)generation, given ? &given_s : NULL, on_back, late, e);
	if (r < 0)
		late_reply_take(late);
	return r;
}

static void rollback_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	auto_json *body = NULL;
	struct err e = { 0 };
	struct sandbox *sb = api_find(arg, x, &e);

	if (sb == NULL || body_object(text, n, true, &body, &e) < 0 ||
	    start_back(x, arg, sb, body, &e) < 0)
		reply_error(x, &e);
}

void sandboxes_rollback(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, rollback_body, arg);
}
