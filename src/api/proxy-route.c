/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way into a sandbox. A request is for one when it names it by headers or by its Host
 * (route-target.c), or is signed with its token (signed-files.c); all else is the API's. It needs
 * no API key: what serves in the sandbox decides whom it answers, the agent by the sandbox's token;
 * if the sandbox's ports are not public, they ask for another one (traffic.c).
 * The agent's host-only paths are never reachable this way, however they are spelled.
 *
 * A port that refuses may be open on the guest's loopback: the agent is asked to lead there. It
 * costs nothing as long as servers listen on all addresses.
 *
 * A request to a paused sandbox that was made to be woken waits, unread, until it runs.
 *
 * Pages of any origin may use the agent, as with E2B; what other servers of a sandbox allow is
 * theirs to say.
 */
#include "api/api-internal.h"
#include "api/late-reply.h"
#include "api/proxy-reply.h"
#include "api/route-target.h"
#include "api/signed-files.h"
#include "api/traffic.h"
#include "base/guestwords.h"
#include "base/parse.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { DETOUR_TARGET_SIZE = sizeof(GUEST_LOOPBACK_PATH "/65535") };

/* A stream into a sandbox, and what its spec borrows. */
struct visit {
	struct target target;
	char *token; /* NULL = the agent asks for none */
	char *host;  /* that the server is to see; NULL = as it was sent */
	char detour_target[DETOUR_TARGET_SIZE];
	struct http_field detour_fields[5];
	struct proxy_detour detour;
};

static void on_fail(struct http_exchange *x, int code, void *arg)
{
	const struct visit *visit = arg;
	const struct target *t = &visit->target;

	if (code == ECONNREFUSED)
		proxy_reply_closed(x, t);
	else if (code == EBUSY)
		proxy_reply_busy(x, t);
	else if (code == ECONNRESET || code == EPROTO || code == EPIPE)
		proxy_reply_hung_up(x, t);
	else
		proxy_reply_gone(x, t);
}

static void visit_free(void *arg)
{
	struct visit *visit = arg;

	free(visit->token);
	free(visit->host);
	free(visit);
}

static void set_detour(struct visit *visit, struct in_addr guest)
{
	struct http_field *field = visit->detour_fields;

	visit->detour = (struct proxy_detour){
		.addr = { .sin_family = AF_INET, .sin_port = htons(GUEST_PORT), .sin_addr = guest },
		.target = visit->detour_target,
		.fields = visit->detour_fields,
	};
	snprintf(visit->detour_target, sizeof(visit->detour_target), "%s/%u", GUEST_LOOPBACK_PATH,
		 visit->target.port);
	*field++ = (struct http_field){ "Host", "agent" };
	*field++ = (struct http_field){ "Connection", "Upgrade" };
	*field++ = (struct http_field){ "Upgrade", GUEST_LOOPBACK_PROTOCOL };
	if (visit->token != NULL)
		*field = (struct http_field){ "X-Access-Token", visit->token };
}

static struct visit *visit_new(const struct sandbox *sb, const struct target *t,
			       struct in_addr guest)
{
	const char *token = sandbox_row(sb)->access_token;
	struct visit *visit = xcalloc(1, sizeof(*visit));

	visit->target = *t;
	visit->token = token[0] != '\0' ? str_dup(token) : NULL;
	visit->host = t->port != GUEST_PORT ? traffic_host(sandbox_row(sb), t->port) : NULL;
	set_detour(visit, guest);
	return visit;
}

/* Whether a sandbox that does not run will soon, or will soon not. */
static bool is_changing(const struct sandbox *sb)
{
	struct err e = { 0 };

	return sandbox_check_running(sb, &e) < 0 && e.kind == ERR_CONFLICT &&
	       sandbox_row(sb)->state != DB_DELETING;
}

static void reply_not_running(struct http_exchange *x, const struct sandbox *sb,
			      const struct target *t)
{
	if (is_changing(sb))
		proxy_reply_changing(x, t);
	else
		proxy_reply_gone(x, t);
}

/* @raw_protocol: NULL = HTTP */
static void start(struct api *api, struct http_exchange *x, struct sandbox *sb,
		  const struct target *t, const char *raw_protocol)
{
	/* The key is for us alone; a guest could use it. So is the token. */
	static const char *const key[] = { "X-API-KEY", TRAFFIC_TOKEN_HEADER, NULL };
	static const char *const token[] = { TRAFFIC_TOKEN_HEADER, NULL };
	bool agent = t->port == GUEST_PORT;
	struct proxy_spec spec = {
		.addr = { .sin_family = AF_INET, .sin_port = htons(t->port) },
		.group = sandbox_streams(sb),
		.raw_protocol = raw_protocol,
		.drop_headers = agent ? key : token,
		.reply_fields = agent ? api_cors_fields : NULL,
		.on_fail = on_fail,
		.on_done = visit_free,
	};
	struct visit *visit;

	if (sandbox_address(sb, &spec.addr.sin_addr, NULL) < 0) {
		reply_not_running(x, sb, t);
		return;
	}
	visit = visit_new(sb, t, spec.addr.sin_addr);
	spec.detour = agent ? NULL : &visit->detour;
	spec.host = visit->host;
	spec.arg = visit;
	proxy_start(manager_uv_loop(api->m), x, &spec);
}

/* A request that waits for its sandbox. */
struct waking {
	struct api *api;
	struct late_reply *late;
	struct target target;
};

static void on_woken(struct sandbox *sb, bool resumed, const struct err *e, void *arg)
{
	auto_free struct waking *w = arg;
	struct http_exchange *x = late_reply_take(w->late);

	(void)resumed;
	if (x == NULL)
		return;
	if (e == NULL)
		start(w->api, x, sb, &w->target, NULL);
	else if (sb == NULL || e->kind == ERR_NOT_FOUND)
		proxy_reply_gone(x, &w->target);
	else
		proxy_reply_asleep(x, &w->target, e);
}

/* Serves a request, if need be when its sandbox has been woken for it. */
static void start_awake(struct api *api, struct http_exchange *x, struct sandbox *sb,
			const struct target *t)
{
	struct err e = { 0 };
	struct waking *w;

	if (!sandbox_row(sb)->auto_resume || sandbox_check_running(sb, NULL) == 0) {
		start(api, x, sb, t, NULL);
		return;
	}
	w = xcalloc(1, sizeof(*w));
	*w = (struct waking){ .api = api, .late = late_reply_new(x), .target = *t };
	if (sandbox_wake(sb, on_woken, w, &e) == 0)
		return;
	late_reply_take(w->late);
	free(w);
	if (e.kind == ERR_NOT_FOUND)
		reply_not_running(x, sb, t);
	else
		proxy_reply_asleep(x, t, &e);
}

/* Whether a sandbox that runs, or can be woken, asks for more than the request has. */
static bool is_barred(const struct sandbox *sb, const struct target *t,
		      const struct http_head *head)
{
	return t->port != GUEST_PORT &&
	       (sandbox_check_running(sb, NULL) == 0 || sandbox_row(sb)->auto_resume) &&
	       !traffic_may_pass(sandbox_row(sb), head);
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
	else if (is_barred(sb, t, head))
		proxy_reply_not_public(x, t);
	else
		start_awake(api, x, sb, t);
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
	start_awake(api, x, sb, &t);
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

static const char raw_protocol[] = "tcp";

/* The agent's port has paths that are not for clients, and raw bytes cannot be looked at. */
static int check_port(struct http_exchange *x, const char *port, uint64_t *out, struct err *e)
{
	const struct http_head *head = http_exchange_head(x);
	const char *protocol = http_head_get(head, "Upgrade");

	if (parse_u64(port, 1, UINT16_MAX, out) < 0 || *out == GUEST_PORT)
		return err_set(e, ERR_INVALID, "port '%.16s' must be 1 to %d, and not the agent's",
			       port, UINT16_MAX);
	if (!head->upgrade || protocol == NULL || strcasecmp(protocol, raw_protocol) != 0 ||
	    head->body != HTTP_BODY_NONE)
		return err_set(e, ERR_INVALID,
			       "a connection to a port is asked for by the headers Connection: "
			       "Upgrade and Upgrade: %s, without a body",
			       raw_protocol);
	return 0;
}

void sandboxes_port(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct err e = { 0 };
	struct sandbox *sb = manager_find(api->m, p->at[0], &e);
	struct target t = { .port = 0 };
	uint64_t port = 0;

	if (sb == NULL || sandbox_check_running(sb, &e) < 0 ||
	    check_port(x, p->at[1], &port, &e) < 0) {
		reply_error(x, &e);
		return;
	}
	t.port = (uint16_t)port;
	str_copy(t.id, sizeof(t.id), sandbox_id(sb));
	start(api, x, sb, &t, raw_protocol);
}
