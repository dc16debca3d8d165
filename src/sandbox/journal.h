/* SPDX-License-Identifier: Apache-2.0 */
/* What befell a sandbox, for its owner: the last 64 lines, in memory. */
#pragma once

#include "base/log.h"
#include "base/vec.h"

enum { JOURNAL_MAX = 64, JOURNAL_TEXT_MAX = 512 };

struct journal_entry {
	uint64_t ms; /* CLOCK_REALTIME */
	enum log_level level;
	char *text; /* owned */
};

VEC_DEFINE(journal_entries, struct journal_entry)

/* Zeroed = empty. */
struct journal {
	struct journal_entries entries; /* oldest first; JOURNAL_MAX at most */
};

/** journal_add() - add a line, cut to JOURNAL_TEXT_MAX; the oldest goes when there are too many
 * @ms:	when it was, CLOCK_REALTIME; 0 = now */
void journal_add(struct journal *j, uint64_t ms, enum log_level level, const char *fmt, ...)
	printf_like(4, 5);

/** journal_done() - free all; idempotent */
void journal_done(struct journal *j);
