/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /sandboxes/pause, ours: all sandboxes that run come to rest, some at a time; `memory` as of
 * one. One that cannot be paused runs on, and is named with its error: the answer is 200 then, too.
 */
#include "api/api-internal.h"
#include "api/body.h"
#include "api/late-reply.h"
#include "base/str.h"
#include "sandbox/rests.h"

static json_t *json_of_result(const struct rest_result *result)
{
	json_t *o = json_pack("{s:s}", "sandboxID", result->id.s);

	/* Without memory one of these is missing, and so, to the client, is the value. */
	if (result->name[0] != '\0')
		ignore_err(json_object_set_new(o, "name", json_string(result->name)));
	if (err_is_set(&result->error))
		ignore_err(json_object_set_new(o, "error", json_of_error(&result->error)));
	return o;
}

static void on_all_rest(const struct rest_result *results, size_t n, void *arg)
{
	struct http_exchange *x = late_reply_take(arg);
	json_t *all;

	if (x == NULL)
		return;
	all = json_array();
	for (size_t i = 0; i < n; i++)
		ignore_err(json_array_append_new(all, json_of_result(&results[i])));
	reply_json(x, 200, NULL, all);
}

static void pause_all_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	struct api *api = arg;
	auto_json *body = NULL;
	struct err e = { 0 };
	bool memory = true;

	if (body_object(text, n, true, &body, &e) < 0 || body_bool(body, "memory", &memory, &e) < 0)
		reply_error(x, &e);
	else
		sandbox_rest_all(api->m, memory, on_all_rest, late_reply_new(x));
}

void sandboxes_pause_all(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, pause_all_body, arg);
}
