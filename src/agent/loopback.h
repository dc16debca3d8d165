/* SPDX-License-Identifier: Apache-2.0 */
/* The way for the host to what listens on the guest's loopback only. */
#pragma once

#include "http/router.h"

struct agent;

/** loopback_serve() - GET /loopback/{port}, of which @arg is the agent */
void loopback_serve(struct http_exchange *x, const struct route_params *params, void *arg);
