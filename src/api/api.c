/* SPDX-License-Identifier: Apache-2.0 */
#include "api/api.h"

#include "api/access.h"
#include "api/api-internal.h"
#include "api/events.h"
#include "base/str.h"
#include "sandbox/accel.h"

#include <errno.h>
#include <stdlib.h>

enum { HTTPS_PORT = 443 };

static const struct route routes[] = {
	{ "POST", "/v2/sandboxes", sandboxes_create_v2 },
	{ "GET", "/v2/sandboxes", sandboxes_list },
	{ "POST", "/sandboxes", sandboxes_create_v1 },
	{ "GET", "/sandboxes", sandboxes_list_v1 },
	{ "GET", "/sandboxes/metrics", metrics_latest }, /* before what has it for an id */
	{ "POST", "/sandboxes/pause", sandboxes_pause_all },
	{ "GET", "/sandboxes/{id}", sandboxes_get },
	{ "DELETE", "/sandboxes/{id}", sandboxes_delete },
	{ "PATCH", "/sandboxes/{id}", sandboxes_patch },
	{ "GET", "/sandboxes/{id}/console", sandboxes_console },
	{ "POST", "/sandboxes/{id}/exec", sandboxes_exec },
	{ "POST", "/sandboxes/{id}/ping", sandboxes_ping },
	{ "GET", "/sandboxes/{id}/ports/{port}", sandboxes_port },
	{ "POST", "/sandboxes/{id}/timeout", sandboxes_timeout },
	{ "POST", "/sandboxes/{id}/refreshes", sandboxes_refreshes },
	{ "POST", "/sandboxes/{id}/connect", sandboxes_connect_v1 },
	{ "POST", "/v2/sandboxes/{id}/connect", sandboxes_connect_v2 },
	{ "POST", "/sandboxes/{id}/pause", sandboxes_pause },
	{ "POST", "/sandboxes/{id}/resume", sandboxes_resume },
	{ "POST", "/sandboxes/{id}/fork", sandboxes_fork },
	{ "POST", "/sandboxes/{id}/checkpoints", checkpoints_create },
	{ "GET", "/sandboxes/{id}/checkpoints", checkpoints_list },
	{ "DELETE", "/sandboxes/{id}/checkpoints/{generation}", checkpoints_delete },
	{ "POST", "/sandboxes/{id}/rollback", sandboxes_rollback },
	{ "POST", "/sandboxes/{id}/snapshots", snapshots_create },
	{ "POST", "/sandboxes/{id}/flatten", sandboxes_flatten },
	{ "PUT", "/sandboxes/{id}/network", sandboxes_network },
	{ "GET", "/sandboxes/{id}/metrics", metrics_get },
	{ "GET", "/sandboxes/{id}/logs", logs_get_v1 },
	{ "GET", "/v2/sandboxes/{id}/logs", logs_get_v2 },
	{ "GET", "/snapshots", snapshots_list },
	{ "GET", "/templates", templates_list },
	{ "POST", "/templates", api_absent },
	{ "GET", "/v2/templates", templates_list },
	{ "POST", "/v2/templates", api_absent },
	{ "POST", "/v3/templates", api_absent },
	{ "POST", "/templates/tags", api_absent },
	{ "DELETE", "/templates/tags", api_absent },
	{ "GET", "/templates/aliases/{alias}", api_absent },
	{ "GET", "/templates/{id}", templates_get },
	{ "POST", "/templates/{id}", api_absent },
	{ "PATCH", "/templates/{id}", api_absent },
	{ "DELETE", "/templates/{id}", templates_delete },
	{ "PATCH", "/v2/templates/{id}", api_absent },
	{ "POST", "/templates/{id}/warm", templates_warm },
	{ "PUT", "/templates/{id}/pool", templates_pool },
	{ "GET", "/templates/{id}/tags", api_absent },
	{ "GET", "/templates/{id}/files/{hash}", api_absent },
	{ "POST", "/templates/{id}/builds/{build}", api_absent },
	{ "POST", "/v2/templates/{id}/builds/{build}", api_absent },
	{ "GET", "/templates/{id}/builds/{build}/status", api_absent },
	{ "GET", "/templates/{id}/builds/{build}/logs", api_absent },
	{ "GET", "/volumes", api_absent },
	{ "POST", "/volumes", api_absent },
	{ "GET", "/volumes/{id}", api_absent },
	{ "DELETE", "/volumes/{id}", api_absent },
	{ "GET", "/volumecontent/{id}/dir", api_absent },
	{ "POST", "/volumecontent/{id}/dir", api_absent },
	{ "GET", "/volumecontent/{id}/path", api_absent },
	{ "PATCH", "/volumecontent/{id}/path", api_absent },
	{ "DELETE", "/volumecontent/{id}/path", api_absent },
	{ "GET", "/volumecontent/{id}/file", api_absent },
	{ "PUT", "/volumecontent/{id}/file", api_absent },
	{ "GET", "/secrets", api_absent },
	{ "POST", "/secrets", api_absent },
	{ "GET", "/secrets/{id}", api_absent },
	{ "POST", "/secrets/{id}", api_absent },
	{ "DELETE", "/secrets/{id}", api_absent },
	{ "GET", "/teams", api_absent },
	{ "GET", "/teams/{id}/metrics", api_absent },
	{ "GET", "/teams/{id}/metrics/max", api_absent },
	{ "GET", "/doctor", doctor_get },
	{ "POST", "/doctor", doctor_post },
	{ "GET", "/df", usage_get },
	{ "POST", "/prune", prune_post },
	{ "GET", "/events", events_get },
	{ "POST", "/events/webhooks", webhooks_create },
	{ "GET", "/events/webhooks", webhooks_list },
	{ "GET", "/events/webhooks/{id}", webhooks_get },
	{ "PATCH", "/events/webhooks/{id}", webhooks_patch },
	{ "DELETE", "/events/webhooks/{id}", webhooks_delete },
	{ "POST", "/keys", keys_create },
	{ "GET", "/keys", keys_list },
	{ "DELETE", "/keys/{id}", keys_delete },
	{ "GET", "/metrics", metrics_prometheus },
	{ "GET", "/version", api_version },
	{ "GET", "/health", api_health },
};

int api_params(const struct http_head *head, struct route_params *out)
{
	char allow[128];

	return route_find(routes, ARRAY_SIZE(routes), head, out, allow, sizeof(allow)) != NULL
		       ? 0
		       : -ENOENT;
}

struct sandbox *api_find(struct api *api, struct http_exchange *x, struct err *e)
{
	const struct http_head *head = http_exchange_head(x);
	struct route_params params;

	if (api_params(head, &params) < 0) {
		err_set(e, ERR_NOT_FOUND, "no endpoint %s", head->path);
		return NULL;
	}
	return manager_find(api->m, params.at[0], e);
}

struct api *api_new(struct manager *m, const char *domain)
{
	struct api *api = xcalloc(1, sizeof(*api));

	api->m = m;
	api->events = event_feed_new(m);
	if (domain != NULL) {
		api->domain = str_printf("%.*s", (int)strcspn(domain, ":"), domain);
		api->public_domain = str_dup(domain);
	}
	return api;
}

void api_set_domain_port(struct api *api, unsigned port)
{
	if (api->domain == NULL || port == HTTPS_PORT || !streq(api->domain, api->public_domain))
		return;
	free(api->public_domain);
	api->public_domain = str_printf("%s:%u", api->domain, port);
}

void api_free(struct api *api)
{
	if (api == NULL)
		return;
	event_feed_free(api->events);
	free(api->domain);
	free(api->public_domain);
	free(api);
}

void api_version(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct manager_versions v = manager_versions(api->m);
	const struct accel_verdict *accel = manager_acceleration(api->m);

	(void)p;
	reply_json(x, 200, NULL,
		   json_pack("{s:s, s:s, s:s, s:s, s:s, s:b, s:s}", "vivd", v.vivd, "vmm", v.vmm,
			     "vmmVersion", v.vmm_version, "kernel", v.kernel, "acceleration",
			     accel->name, "accelerationDecided", accel->decided,
			     "accelerationReason", accel->why));
}

void api_health(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	(void)arg;
	reply_empty(x);
}

static void reply_no_route(struct http_exchange *x, const char *allow)
{
	const struct http_head *head = http_exchange_head(x);
	struct http_field fields[] = { { "Allow", allow }, { NULL, NULL } };
	auto_free char *why = NULL;

	if (allow[0] == '\0') {
		why = str_printf("no endpoint %s", head->path);
		reply_json(x, 404, NULL,
			   json_pack("{s:i, s:o}", "code", 404, "message", json_of_text(why)));
		return;
	}
	why = str_printf("%s is not allowed on %s; it has %s", head->method, head->path, allow);
	reply_json(x, 405, fields,
		   json_pack("{s:i, s:o}", "code", 405, "message", json_of_text(why)));
}

void api_handle(struct http_exchange *x, void *arg)
{
	struct api *api = arg;
	const struct http_head *head = http_exchange_head(x);
	struct route_params params;
	const struct route *route;
	char allow[128];

	if (api_proxy(api, x))
		return;
	if (api_is_preflight(head)) {
		reply_preflight(x);
		return;
	}
	if (!access_check(api, x))
		return;
	route = route_find(routes, ARRAY_SIZE(routes), head, &params, allow, sizeof(allow));
	if (route != NULL)
		route->fn(x, &params, api);
	else
		reply_no_route(x, allow);
}

void api_handle_proxy(struct http_exchange *x, void *arg)
{
	if (api_proxy(arg, x))
		return;
	reply_json(x, 404, NULL,
		   json_pack("{s:i, s:s}", "code", 404, "message",
			     "this address is the way to sandboxes only: name one and its port by "
			     "the host PORT-ID.DOMAIN, or by E2b-Sandbox-Id and E2b-Sandbox-Port"));
}
