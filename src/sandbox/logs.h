/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log of a sandbox: what its guest wrote to the console, and what befell it, by time.
 *
 * Theory of operation. The loop takes a copy, which costs one memcpy of 64 KiB at most; a worker
 * finds the lines in it, which are a guest's bytes. Lines are printable text when they come out:
 * control characters and terminal sequences are gone.
 */
#pragma once

#include "base/log.h"
#include "base/vec.h"
#include "sandbox/sandbox.h"

struct log_line {
	uint64_t
		ms; /* CLOCK_REALTIME; of a console's line when it began, within 100 ms; of one that
		      * an earlier vivd saw, at the latest */
	enum log_level level;
	bool console; /* else it is vivd's */
	char *text;   /* owned */
};
VEC_DEFINE(log_lines, struct log_line)

struct log_query {
	uint64_t from_ms;
	uint64_t to_ms; /* both are in it */
	bool backward;  /* newest first */
	size_t limit;   /* of the first in this order */
	enum log_level least;
	const char *search; /* in the text, as it is; borrowed; NULL = any */
};

struct log_snapshot;

/** log_snapshot_take() - a copy of all; log_snapshot_free() frees it. While an operation runs the
 * console is not in it. Thread: loop */
struct log_snapshot *log_snapshot_take(const struct sandbox *sb);

/** log_snapshot_free() - free it; NULL is allowed */
void log_snapshot_free(struct log_snapshot *s);

/** log_snapshot_select() - add the lines that are asked for. Thread: any */
void log_snapshot_select(const struct log_snapshot *s, const struct log_query *q,
			 struct log_lines *out);

/** log_lines_free() - free lines and their texts; idempotent */
void log_lines_free(struct log_lines *lines);

struct console;
struct journal;

/** log_snapshot_of() - as log_snapshot_take(), of parts; @c may be NULL */
struct log_snapshot *log_snapshot_of(const struct console *c, const struct journal *j);
