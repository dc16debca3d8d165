/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's loop, its HTTP server and its table of routes. */
#pragma once

#include "agent/agent.h"
#include "base/err.h"

/**
 * serve_start() - make everything ready to serve
 * @a:		filled; is_init and root_only are the caller's
 * @listen_fd:	bound and listening; taken over
 *
 * Return: 0; -errno with @e set: the process can only end then.
 */
must_check int serve_start(struct agent *a, int listen_fd, struct err *e);

/** serve_run() - serve until SIGTERM, SIGINT or SIGPWR */
void serve_run(struct agent *a);

/** serve_stop() - end all processes and connections and free everything */
void serve_stop(struct agent *a);
