/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way into a sandbox. A request is for one when it names it by headers or by its Host
 * (route-target.c), or is signed with its token (signed-files.c); all else is the API's. It needs
 * no API key: what serves in the sandbox decides whom it answers, the agent by the sandbox's token.
 * The agent's host-only paths are never reachable this way, however they are spelled.
 *
 * Pages of any origin may use the agent, as with E2B; what other servers of a sandbox allow is
 * theirs to say.
 */
#include "api/api-internal.h"
#include "api/proxy-reply.h"
#include "api/route-target.h"
#include "api/signed-files.h"
#include "base/guestwords.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

static void on_fail(struct http_exchange *x, int code, void *arg)
{
	struct target *t = arg;

	if (code == ECONNREFUSED)
		proxy_reply_closed(x, t);
	else if (code == ECONNRESET || code == EPROTO || code == EPIPE)
		proxy_reply_hung_up(x, t);
	else
		proxy_reply_gone(x, t);
}

static void on_done(void *arg)
{
	free(arg);
}

static void start(struct api *api, struct http_exchange *x, struct sandbox *sb,
		  const struct target *t)
{
	/* The key is for us alone; a guest could use it. */
	static const char *const secret[] = { "X-API-KEY", NULL };
	struct target *copy = xcalloc(1, sizeof(*copy));
	bool agent = t->port == GUEST_PORT;
	struct proxy_spec spec = {
		.addr = { .sin_family = AF_INET, .sin_port = htons(t->port) },
		.group = sandbox_streams(sb),
		.drop_headers = agent ? secret : NULL,
		.reply_fields = agent ? api_cors_fields : NULL,
		.on_fail = on_fail,
		.on_done = on_done,
		.arg = copy,
	};

	*copy = *t;
	if (sandbox_address(sb, &spec.addr.sin_addr, NULL) < 0) {
		proxy_reply_gone(x, t);
		free(copy);
		return;
	}
	proxy_start(manager_uv_loop(api->m), x, &spec);
}

static void start_named(struct api *api, struct http_exchange *x, const struct target *t)
{
	const struct http_head *head = http_exchange_head(x);
	struct sandbox_id id;
	struct sandbox *sb;

	if (target_is_host_only(t, head->path)) {
		proxy_reply_host_only(x);
		return;
	}
	if (t->port == GUEST_PORT && api_is_preflight(head)) {
		reply_preflight(x);
		return;
	}
	sb = id_parse(t->id, &id) < 0 ? NULL : manager_find(api->m, id.s, NULL);
	if (sb == NULL)
		proxy_reply_gone(x, t);
	else
		start(api, x, sb, t);
}

static void start_signed(struct api *api, struct http_exchange *x)
{
	struct sandbox *sb = signed_files_find(api, http_exchange_head(x));
	struct target t = { .port = GUEST_PORT };

	if (sb == NULL) {
		reply_json(x, 401, NULL,
			   json_pack("{s:i, s:s}", "code", 401, "message", "invalid signature"));
		return;
	}
	str_copy(t.id, sizeof(t.id), sandbox_id(sb));
	start(api, x, sb, &t);
}

bool api_proxy(struct api *api, struct http_exchange *x)
{
	const struct http_head *head = http_exchange_head(x);
	struct err e = { 0 };
	struct target t = { 0 };
	int r = target_parse(head, api->domain, &t, &e);

	if (r < 0)
		proxy_reply_bad(x, &e);
	else if (r > 0)
		start_named(api, x, &t);
	else if (!api_is_preflight(head) && signed_files_asked(head))
		start_signed(api, x);
	else
		return false;
	return true;
}
