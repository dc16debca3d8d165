/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of api/ share. */
#pragma once

#include "api/api.h"
#include "base/json.h"
#include "http/router.h"

enum { API_BODY_MAX = 1024 * 1024 };

struct api {
	struct manager *m;
};

/** json_of_text() - a string; of one that is not UTF-8 (a path, a guest's words), or was cut within a
 * character, all but ASCII is shown as '?'. New reference; NULL without memory */
json_t *json_of_text(const char *text);

/** reply_json() - answer with a JSON value, whose reference is taken over
 * @fields:	extra headers ended by a NULL name, or NULL */
void reply_json(struct http_exchange *x, int status, const struct http_field *fields,
		json_t *value);

/** reply_error() - answer with an error's kind, HTTP status and message */
void reply_error(struct http_exchange *x, const struct err *e);

/** reply_empty() - 204 */
void reply_empty(struct http_exchange *x);

/** json_of_sandbox() - E2B's Sandbox (the reply of create); new reference */
json_t *json_of_sandbox(const struct sandbox *sb);

/** json_of_listed() - E2B's ListedSandbox with our `vivarium` object; new reference */
json_t *json_of_listed(const struct sandbox *sb);

/** json_of_detail() - E2B's SandboxDetail with our `vivarium` object in full; new reference */
json_t *json_of_detail(const struct sandbox *sb);

/** api_proxy() - serve a request that names a sandbox by E2b-Sandbox-Id and E2b-Sandbox-Port */
void api_proxy(struct api *api, struct http_exchange *x);

/** api_is_proxied() - whether a request is meant for a sandbox */
bool api_is_proxied(const struct http_head *head);

/* Handlers, as in struct route; @arg is the struct api. */
void sandboxes_create_v1(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_create_v2(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_list(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_list_v1(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_get(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_delete(struct http_exchange *x, const struct route_params *p, void *arg);
void sandboxes_console(struct http_exchange *x, const struct route_params *p, void *arg);
void api_version(struct http_exchange *x, const struct route_params *p, void *arg);
void api_health(struct http_exchange *x, const struct route_params *p, void *arg);
