/* SPDX-License-Identifier: Apache-2.0 */
/* What stderr shows of a build: on a terminal one line that is rewritten, else a line a step. */
#pragma once

#include "build/build.h"

enum { VIEW_WHAT_SIZE = 256 };

struct view {
	unsigned parts; /* how many there are; set by the caller, all below by these functions */
	bool terminal;
	uint64_t start_ns;
	uint64_t shown_ns; /* when the last line was written; not on a terminal */
	unsigned part;     /* 1 to parts */
	const char *part_name;
	unsigned at; /* step of the part */
	unsigned of;
	char what[VIEW_WHAT_SIZE];
};

/**
 * view_run() - do work that is shown, and that SIGINT and SIGTERM end
 * @work:	does it; its @op is cancelled by the signals; it begins parts by view_begin_part()
 *
 * Sets the umask to 0022. Thread: main, before any other thread exists.
 * Return: what @work returned; < 0 with @e set.
 */
must_check int view_run(struct view *v, int (*work)(struct view *v, void *arg, struct op *op),
			void *arg, struct err *e);

/** view_begin_part() - where part @part of v->parts, called @name, tells its progress */
struct progress view_begin_part(struct view *v, unsigned part, const char *name);

/** view_elapsed_s() - seconds since view_run() began */
unsigned long long view_elapsed_s(const struct view *v);
