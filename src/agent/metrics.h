/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: processor, memory and disk of the guest, read when asked and at no other time. */
#pragma once

#include "http/router.h"

/** metrics_serve() - answer; the processor's share is that since the last request, or since boot */
void metrics_serve(struct http_exchange *x, const struct route_params *params, void *arg);
