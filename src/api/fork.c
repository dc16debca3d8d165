/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /sandboxes/{id}/fork. Of E2B's are `timeout` (null, which E2B does not have, means none) and
 * `count`; ours is `paused`: true forks a paused sandbox, too, which E2B refuses.
 */
#include "api/api-internal.h"
#include "api/body.h"
#include "api/late-reply.h"
#include "base/str.h"
#include "sandbox/checkpoints.h"

enum { FORK_TIMEOUT_S = 15 };

static json_t *json_of_failed(const struct err *e)
{
	return json_pack("{s:o}", "error", json_of_error(e));
}

static json_t *json_of_child(const struct api *api, const struct fork_child *child)
{
	struct err e = child->error;
	struct sandbox *sb = err_is_set(&e) ? NULL : manager_find(api->m, child->id.s, &e);

	return sb == NULL ? json_of_failed(&e)
			  : json_pack("{s:o}", "sandbox", json_of_sandbox(api, sb));
}

static void on_forked(const struct fork_child *children, unsigned n, const struct err *e, void *arg)
{
	const struct api *api = late_reply_api(arg);
	struct http_exchange *x = late_reply_take(arg);
	json_t *all;

	if (x == NULL)
		return;
	if (e != NULL) {
		reply_error(x, e);
		return;
	}
	all = json_array();
	for (unsigned i = 0; i < n; i++)
		ignore_err(json_array_append_new(all, json_of_child(api, &children[i])));
	reply_json(x, 201, NULL, all);
}

static int read_spec(const json_t *body, struct fork_spec *out, struct err *e)
{
	int64_t timeout_s = FORK_TIMEOUT_S;
	int64_t count = 1;
	int r = body_int(body, "timeout", 1, &timeout_s, e);

	if (r >= 0)
		r = body_int(body, "count", 1, &count, e);
	if (r < 0)
		return r;
	if (count > FORK_CHILDREN_MAX)
		return err_set(e, ERR_INVALID, "field 'count' must be from 1 to %d",
			       FORK_CHILDREN_MAX);
	out->count = (unsigned)count;
	out->timeout_s = body_is_null(body, "timeout") ? 0 : (uint64_t)timeout_s;
	out->paused_too = json_is_true(json_object_get(body, "paused"));
	return 0;
}

static int start(struct http_exchange *x, struct api *api, struct sandbox *sb, const json_t *body,
		 struct err *e)
{
	struct fork_spec spec = { 0 };
	struct late_reply *late;
	int r = read_spec(body, &spec, e);

	if (r < 0)
		return r;
	late = late_reply_for(x, api);
	r = sandbox_fork(sb, &spec, on_forked, late, e);
	if (r < 0)
		late_reply_take(late);
	return r;
}

static void fork_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	auto_json *body = NULL;
	struct err e = { 0 };
	struct sandbox *sb = api_find(arg, x, &e);

	if (sb == NULL || body_object(text, n, true, &body, &e) < 0 ||
	    start(x, arg, sb, body, &e) < 0)
		reply_error(x, &e);
}

void sandboxes_fork(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, fork_body, arg);
}
