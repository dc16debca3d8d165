/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's clock, for the host alone: it asks what time it is here, and has it corrected by what
 * it found, which is right however long the way to us took. A little is made up for slowly, so that
 * no time is left out or comes twice; half a second and more at once.
 */
#pragma once

#include "http/router.h"

/** clock_serve() - GET /clock: CLOCK_REALTIME, ns, as a decimal number */
void clock_serve(struct http_exchange *x, const struct route_params *params, void *arg);

/** clock_serve_set() - POST /clock/{by}: put it forward by so many ns, or, with a '-', back */
void clock_serve_set(struct http_exchange *x, const struct route_params *params, void *arg);
