/* SPDX-License-Identifier: Apache-2.0 */
/* Who this sandbox is: POST /init from the host, GET /envs. */
#pragma once

#include "http/router.h"

struct agent;
struct identity;

/** identity_init() - root, without token and variables; identity_done() frees it */
void identity_init(struct identity *id);

/** identity_done() - free */
void identity_done(struct identity *id);

/** identity_token_ok() - whether a request's X-Access-Token (NULL = none) is the one asked for */
bool identity_token_ok(const struct identity *id, const char *token);

/** identity_serve_init() - POST /init; @arg is the struct agent */
void identity_serve_init(struct http_exchange *x, const struct route_params *params, void *arg);

/** identity_serve_envs() - GET /envs; @arg is the struct agent */
void identity_serve_envs(struct http_exchange *x, const struct route_params *params, void *arg);
