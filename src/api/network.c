/* SPDX-License-Identifier: Apache-2.0 */
/* PUT /sandboxes/{id}/network: where a running sandbox may go, all of it anew. */
#include "api/api-internal.h"
#include "api/late-reply.h"
#include "api/network-request.h"

#include <errno.h>

static void on_changed(const struct err *e, void *arg)
{
	late_reply_end(arg, e);
}

/* Return: 0 the reply comes later; -errno with @e set. */
static int put(struct http_exchange *x, struct api *api, const char *body, size_t n, struct err *e)
{
	const struct http_head *head = http_exchange_head(x);
	cleanup(db_egress_done) struct db_egress wish;
	struct route_params params;
	struct late_reply *late;
	struct sandbox *sb;
	int r;

	db_egress_init(&wish);
	if (api_params(head, &params) < 0)
		return err_set(e, ERR_NOT_FOUND, "no endpoint %s", head->path);
	sb = manager_find(api->m, params.at[0], e);
	if (sb == NULL)
		return -ENOENT;
	r = network_request_parse(body, n, &wish, e);
	if (r < 0)
		return r;
	late = late_reply_new(x);
	r = sandbox_set_egress(sb, &wish, on_changed, late, e);
	if (r < 0)
		late_reply_take(late);
	return r;
}

static void put_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	struct err e = { 0 };

	if (put(x, arg, body, n, &e) < 0)
		reply_error(x, &e);
}

void sandboxes_network(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, put_body, arg);
}
