/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/err.h"

struct prepare_spec {
	const char *state_dir;
	uint64_t root_free_mib; /* room in the base template's image beyond its contents */
	bool force;             /* also what is there: the newest kernel, a new base template */
};

/**
 * prepare_run() - get a state directory what sandboxes need: a guest kernel and the base template
 *
 * Tells its progress on stderr; on a terminal in one line that it rewrites. SIGINT and SIGTERM end
 * it and leave nothing behind. What is there already is kept. Thread: main, before any other thread
 * exists. Return: 0; -errno with @e set.
 */
must_check int prepare_run(const struct prepare_spec *spec, struct err *e);
