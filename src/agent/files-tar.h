/* SPDX-License-Identifier: Apache-2.0 */
/* Whole trees over HTTP, as tar streams; extensions of ours. `arg` is the agent. */
#pragma once

#include "http/router.h"

/** files_serve_tar_get() - GET /files/tar: a file or a tree */
void files_serve_tar_get(struct http_exchange *x, const struct route_params *params, void *arg);

/** files_serve_tar_post() - POST /files/tar: unpack */
void files_serve_tar_post(struct http_exchange *x, const struct route_params *params, void *arg);
