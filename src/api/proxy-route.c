/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way into a sandbox: a request with E2b-Sandbox-Id and E2b-Sandbox-Port goes to that port of
 * the guest. The agent's host-only paths are never reachable this way, however they are spelled.
 */
#include "api/api-internal.h"
#include "base/parse.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

enum { AGENT_PORT = 49983 };

static const char id_header[] = "E2b-Sandbox-Id";
static const char port_header[] = "E2b-Sandbox-Port";

struct target {
	char id[64]; /* as the client gave it */
	uint16_t port;
};

bool api_is_proxied(const struct http_head *head)
{
	return http_head_get(head, id_header) != NULL || http_head_get(head, port_header) != NULL;
}

static void reply_gone(struct http_exchange *x, const char *id)
{
	reply_json(x, 502, NULL,
		   json_pack("{s:o, s:s, s:i}", "sandboxId", json_of_text(id), "message",
			     "The sandbox was not found", "code", 502));
}

static bool is_host_only(const char *path)
{
	static const char *const paths[] = { "/init",     "/freeze", "/unfreeze", "/collapse",
					     "/fsfreeze", "/fsthaw", "/upgrade" };
	auto_free char *plain = NULL;
	const char *from;

	if (http_percent_decode(path, strlen(path), false, &plain) < 0)
		return true; /* nobody can tell what it names */
	from = plain;
	while (from[0] == '/' && from[1] == '/')
		from++;
	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		size_t n = strlen(paths[i]);

		if (strncasecmp(from, paths[i], n) == 0 && (from[n] == '\0' || from[n] == '/'))
			return true;
	}
	return false;
}

static int read_target(const struct http_head *head, struct target *t, struct err *e)
{
	const char *id = http_head_get(head, id_header);
	const char *port = http_head_get(head, port_header);
	uint64_t number = 0;
	char *dash;

	if (id == NULL || port == NULL)
		return err_set(e, ERR_INVALID, "both headers are needed: %s and %s", id_header,
			       port_header);
	if (str_fit(t->id, sizeof(t->id), "%s", id) < 0 ||
	    parse_u64(port, 1, UINT16_MAX, &number) < 0)
		return err_set(e, ERR_INVALID,
			       "headers %s: %.64s, %s: %.16s name no sandbox and port", id_header,
			       id, port_header, port);
	dash = strchr(t->id, '-'); /* an old form: <id>-<client id> */
	if (dash != NULL)
		*dash = '\0';
	t->port = (uint16_t)number;
	return 0;
}

static void on_fail(struct http_exchange *x, int code, void *arg)
{
	struct target *t = arg;

	if (code == ECONNREFUSED)
		reply_json(x, 502, NULL,
			   json_pack("{s:s, s:s, s:i, s:i}", "sandboxId", t->id, "message",
				     "The sandbox is running but port is not open", "port", t->port,
				     "code", 502));
	else
		reply_gone(x, t->id);
}

static void on_done(void *arg)
{
	free(arg);
}

static void start(struct api *api, struct http_exchange *x, struct sandbox *sb,
		  const struct target *t)
{
	struct target *copy = xcalloc(1, sizeof(*copy));
	struct proxy_spec spec = {
		.addr = { .sin_family = AF_INET, .sin_port = htons(t->port) },
		.group = sandbox_streams(sb),
		.on_fail = on_fail,
		.on_done = on_done,
		.arg = copy,
	};

	*copy = *t;
	if (sandbox_address(sb, &spec.addr.sin_addr, NULL) < 0) {
		reply_gone(x, t->id);
		free(copy);
		return;
	}
	proxy_start(manager_uv_loop(api->m), x, &spec);
}

void api_proxy(struct api *api, struct http_exchange *x)
{
	const struct http_head *head = http_exchange_head(x);
	struct sandbox *sb;
	struct sandbox_id id;
	struct err e = { 0 };
	struct target t = { 0 };

	if (read_target(head, &t, &e) < 0) {
		reply_error(x, &e);
		return;
	}
	if (t.port == AGENT_PORT && is_host_only(head->path)) {
		reply_json(x, 404, NULL,
			   json_pack("{s:s, s:o, s:i}", "message", "not found", "path",
				     json_of_text(head->path), "code", 404));
		return;
	}
	sb = id_parse(t.id, &id) < 0 ? NULL : manager_find(api->m, id.s, NULL);
	if (sb == NULL)
		reply_gone(x, t.id);
	else
		start(api, x, sb, &t);
}
