/* SPDX-License-Identifier: Apache-2.0 */
/* The service process.Process. */
#pragma once

#include "http/router.h"

/** process_serve() - POST /process.Process/{method}; @arg is the struct agent */
void process_serve(struct http_exchange *x, const struct route_params *params, void *arg);
