/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The guest's console: the last 64 KiB in memory, and the same in the run directory's console.log,
 * which is rewritten in place when it has grown to twice that: a guest can neither fill memory nor
 * disk by printing. Fed by a worker while the guest boots and by the loop afterwards, never both at
 * once.
 *
 * Marks tell when what was fed: one for a piece that comes 100 ms or more after the one before.
 * When there is no room for one more, every second is given up.
 */
#pragma once

#include "base/buf.h"
#include "base/vec.h"

enum { CONSOLE_RING_BYTES = 65536, CONSOLE_MARKS = 128, CONSOLE_MARK_MS = 100 };

/* What begins at this offset of all that was fed came then. */
struct console_mark {
	uint64_t at;
	uint64_t ms; /* CLOCK_REALTIME */
};

VEC_DEFINE(console_marks, struct console_mark)

struct console {
	struct buf ring;
	uint64_t fed;               /* bytes; the ring has the last of them */
	struct console_marks marks; /* CONSOLE_MARKS at most */
	int log_fd;                 /* owned; -1 = no file */
	uint64_t log_bytes;
};

#define CONSOLE_INIT                                                                               \
	{                                                                                          \
		.ring = BUF_INIT(2 * CONSOLE_RING_BYTES), .log_fd = -1                             \
	}

/** console_open() - keep a copy in console.log of a run directory; what it holds already is read
 * first */
must_check int console_open(struct console *c, int run_dirfd);

/** console_feed() - add bytes; the oldest go. A log that cannot be written is given up, not the
 * guest */
void console_feed(struct console *c, const char *p, size_t n);

/** console_mark_time() - when the byte at an offset came; 0 = not known */
uint64_t console_mark_time(const struct console_marks *marks, uint64_t at);

/** console_tail() - the last bytes as a string, control characters but tab and newline removed;
 * caller frees
 * @max:	bytes at most, from a line's start where there is one */
char *console_tail(const struct console *c, size_t max);

/** console_done() - close and free; idempotent */
void console_done(struct console *c);
