/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files over plain HTTP: GET and POST /files, POST /files/compose. Files are opened with root's
 * rights, as the owner of the sandbox is the one who asks; the user named by a request owns what is
 * made and gives relative paths their meaning. Arguments are those of a route; @arg is the agent.
 */
#pragma once

#include "http/router.h"

/** files_serve_get() - GET /files: download */
void files_serve_get(struct http_exchange *x, const struct route_params *params, void *arg);

/** files_serve_post() - POST /files: upload one or many */
void files_serve_post(struct http_exchange *x, const struct route_params *params, void *arg);

/** files_serve_compose() - POST /files/compose: make one file of many */
void files_serve_compose(struct http_exchange *x, const struct route_params *params, void *arg);
