/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ways in: what of the API and the sandboxes is served where, by the settings. Each way is a
 * server of its own, so that none of them can use up the connections of another, the operator's
 * unix socket least of all.
 */
#pragma once

#include "daemon/config.h"
#include "sandbox/sandbox.h"

#include <uv.h>

struct doors;

/**
 * doors_open() - listen, and serve from the loop's next turn on
 * @m:		must outlive what is opened
 * @out:	doors_close() while the loop runs, then doors_free(); also set after a failure
 *
 * The unix socket comes last: a client that finds it finds all.
 * Return: 0; -errno with @e set.
 */
must_check int doors_open(uv_loop_t *loop, struct manager *m, const struct config *c,
			  struct doors **out, struct err *e);

/** doors_reload() - serve the certificate that is there now, to who comes from now on */
void doors_reload(struct doors *d);

/** doors_close() - stop listening and end all connections; idempotent; NULL is allowed */
void doors_close(struct doors *d);

/** doors_free() - when the loop has closed what doors_close() ended; NULL is allowed */
void doors_free(struct doors *d);
