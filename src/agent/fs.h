/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Connect service filesystem.Filesystem. As with plain /files, everything is done with root's
 * rights; the user of a call owns what it makes and gives relative paths their meaning.
 */
#pragma once

#include "http/router.h"

/** fs_serve() - one of the service's methods; @arg is the agent */
void fs_serve(struct http_exchange *x, const struct route_params *params, void *arg);

struct agent;

/** fs_stop() - free what outlives calls: the watchers */
void fs_stop(struct agent *a);
