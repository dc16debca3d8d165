/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Resources of the API that the agent of a sandbox serves: /sandboxes/{id}/exec is its /exec. Who
 * may use the API may use them, so the sandbox's own token is put in here.
 */
#include "api/api-internal.h"
#include "base/guestwords.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

/* A call on its way; its strings live until the proxy is done with them. */
struct guest_call {
	struct http_field fields[PROXY_REQUEST_FIELDS_MAX + 1];
	char *token;
	char id[sizeof(struct sandbox_id)];
};

static void on_fail(struct http_exchange *x, int code, void *arg)
{
	const struct guest_call *call = arg;
	struct err e = { 0 };

	if (code == ESHUTDOWN)
		err_set(&e, ERR_AGENT,
			"sandbox %s was paused or stopped before its agent answered; "
			"whether the command has run is unknown",
			call->id);
	else
		err_set(&e, ERR_AGENT, "the agent of sandbox %s did not answer: %s", call->id,
			strerror(code));
	reply_error(x, &e);
}

static void on_done(void *arg)
{
	struct guest_call *call = arg;

	free(call->token);
	free(call);
}

/* Starts a running sandbox's call. Return: 0; -errno with @e set: nothing was answered. */
static int guest_call(struct api *api, struct http_exchange *x, struct sandbox *sb,
		      const char *target, struct err *e)
{
	/* They are for us; a guest has no use for the one, and gets its own of the other. */
	static const char *const drop[] = { "X-API-KEY", "Authorization", "X-Access-Token", NULL };
	struct guest_call *call;
	struct proxy_spec spec = {
		.addr = { .sin_family = AF_INET, .sin_port = htons(GUEST_PORT) },
		.group = sandbox_streams(sb),
		.target = target,
		.drop_headers = drop,
		.reply_fields = api_cors_fields,
		.on_fail = on_fail,
		.on_done = on_done,
	};
	int r = sandbox_check_running(sb, e);

	if (r == 0)
		r = sandbox_address(sb, &spec.addr.sin_addr, e);
	if (r < 0)
		return r;
	call = xcalloc(1, sizeof(*call));
	call->token = str_dup(sandbox_row(sb)->access_token);
	str_copy(call->id, sizeof(call->id), sandbox_id(sb));
	if (call->token[0] != '\0')
		call->fields[0] = (struct http_field){ "X-Access-Token", call->token };
	spec.request_fields = call->fields;
	spec.arg = call;
	proxy_start(manager_uv_loop(api->m), x, &spec);
	return 0;
}

void sandboxes_exec(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct err e = { 0 };
	struct sandbox *sb = manager_find(api->m, p->at[0], &e);

	if (sb == NULL || guest_call(api, x, sb, "/exec", &e) < 0)
		reply_error(x, &e);
}
