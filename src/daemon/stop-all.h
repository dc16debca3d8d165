/* SPDX-License-Identifier: Apache-2.0 */
/* vivd --stop-all: every sandbox of a state directory is stopped, by whoever has the directory. */
#pragma once

#include "base/err.h"
#include "sandbox/rests.h"

/**
 * stop_all_ask() - have the vivd that runs stop all sandboxes, and say which it did
 * @socket:	of its API
 *
 * Return: 0 all are stopped; 1 no vivd serves there; -errno with @e set.
 */
must_check int stop_all_ask(const char *socket, struct err *e);

/** stop_all_tell() - say on stdout which sandboxes are stopped, and on stderr which are not.
 * Return: 0 all are; -EIO with @e set */
must_check int stop_all_tell(const struct rest_result *results, size_t n, struct err *e);
