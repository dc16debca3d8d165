/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "http/router.h"

/** exec_serve() - POST /exec: run a command, answer with what it wrote; @arg is the agent */
void exec_serve(struct http_exchange *x, const struct route_params *params, void *arg);
