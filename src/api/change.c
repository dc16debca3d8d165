/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PATCH /sandboxes/{id}: who its commands run as (defaultUser), and what environment they have
 * (envs); what becomes of it when it fails or is idle (vivarium). A merge patch (RFC 7396): what is
 * left out stays, a variable that is null goes.
 */
#include "api/api-internal.h"
#include "api/body.h"
#include "api/change-request.h"
#include "api/late-reply.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

/* A change under way. */
struct change {
	struct late_reply *late;
	bool has_policy;
	struct sandbox_policy policy;
};

/* The policy comes last: it can hardly fail, and needs no guest. */
static void on_changed(struct sandbox *sb, const struct err *e, void *arg)
{
	auto_free struct change *c = arg;
	const struct api *api = late_reply_api(c->late);
	struct http_exchange *x = late_reply_take(c->late);
	struct err own = { 0 };

	if (e == NULL && c->has_policy && sandbox_set_policy(sb, &c->policy, &own) < 0)
		e = &own;
	if (x == NULL)
		return;
	if (e != NULL)
		reply_error(x, e);
	else
		reply_json(x, 200, NULL, json_of_detail(api, sb));
}

/* Return: as change(). */
static int begin(struct sandbox *sb, const struct change_request *request, struct late_reply *late,
		 struct err *e)
{
	struct change *c = xcalloc(1, sizeof(*c));
	int r;

	c->late = late;
	c->has_policy = request->has_policy;
	c->policy = request->policy;
	if (request->has_policy && request->user == NULL && request->env_json == NULL) {
		on_changed(sb, NULL, c); /* its guest has no part in that */
		return 0;
	}
	r = sandbox_change(sb, request->user, request->env_json, on_changed, c, e);
	if (r < 0)
		free(c);
	return r;
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
	r = begin(sb, &request, late, e);
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
