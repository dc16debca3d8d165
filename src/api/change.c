/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PATCH /sandboxes/{id}: who its commands run as (defaultUser), and what environment they have
 * (envs). A merge patch (RFC 7396): what is left out stays, a variable that is null goes.
 */
#include "api/api-internal.h"
#include "api/body.h"
#include "api/change-request.h"
#include "api/late-reply.h"
#include "base/str.h"

#include <errno.h>

static void on_changed(struct sandbox *sb, const struct err *e, void *arg)
{
	const struct api *api = late_reply_api(arg);
	struct http_exchange *x = late_reply_take(arg);

	if (x == NULL)
		return;
	if (e != NULL)
		reply_error(x, e);
	else
		reply_json(x, 200, NULL, json_of_detail(api, sb));
}

/* Return: 0 the reply comes later; -errno with @e set. */
static int change(struct http_exchange *x, struct api *api, const char *body, size_t n,
		  struct err *e)
{
	const struct http_head *head = http_exchange_head(x);
	cleanup(change_request_done) struct change_request request = { 0 };
	struct route_params params;
	struct late_reply *late;
	struct sandbox *sb;
	int r;

	if (api_params(head, &params) < 0)
		return err_set(e, ERR_NOT_FOUND, "no endpoint %s", head->path);
	sb = manager_find(api->m, params.at[0], e);
	if (sb == NULL)
		return -ENOENT;
	r = change_request_parse(body, n, sandbox_row(sb), &request, e);
	if (r < 0)
		return r;
	late = late_reply_for(x, api);
	r = sandbox_change(sb, request.user, request.env_json, on_changed, late, e);
	if (r < 0)
		late_reply_take(late);
	return r;
}

static void patch_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	struct err e = { 0 };

	if (change(x, arg, body, n, &e) < 0)
		reply_error(x, &e);
}

void sandboxes_patch(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, patch_body, arg);
}
