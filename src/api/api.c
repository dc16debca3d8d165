/* SPDX-License-Identifier: Apache-2.0 */
#include "api/api.h"

#include "api/api-internal.h"
#include "base/str.h"

#include <stdlib.h>

static const struct route routes[] = {
	{ "POST", "/v2/sandboxes", sandboxes_create_v2 },
	{ "GET", "/v2/sandboxes", sandboxes_list },
	{ "POST", "/sandboxes", sandboxes_create_v1 },
	{ "GET", "/sandboxes", sandboxes_list_v1 },
	{ "GET", "/sandboxes/{id}", sandboxes_get },
	{ "DELETE", "/sandboxes/{id}", sandboxes_delete },
	{ "GET", "/sandboxes/{id}/console", sandboxes_console },
	{ "GET", "/version", api_version },
	{ "GET", "/health", api_health },
};

struct api *api_new(struct manager *m)
{
	struct api *api = xcalloc(1, sizeof(*api));

	api->m = m;
	return api;
}

void api_free(struct api *api)
{
	free(api);
}

void api_version(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct manager_versions v = manager_versions(api->m);

	(void)p;
	reply_json(x, 200, NULL,
		   json_pack("{s:s, s:s, s:s, s:s}", "vivd", v.vivd, "vmm", v.vmm, "vmmVersion",
			     v.vmm_version, "kernel", v.kernel));
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

	if (api_is_proxied(head)) {
		api_proxy(api, x);
		return;
	}
	route = route_find(routes, ARRAY_SIZE(routes), head, &params, allow, sizeof(allow));
	if (route != NULL)
		route->fn(x, &params, api);
	else
		reply_no_route(x, allow);
}
