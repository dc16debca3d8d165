/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Coming to rest in a queue: what vivd pauses by itself, and all sandboxes at once. A pause writes
 * a guest's memory to the disk, so only some of them are under way at a time; one that somebody
 * asks for alone does not wait here. All functions are called on the loop.
 */
#pragma once

#include "sandbox/sandbox.h"

struct rest_wish {
	bool memory;       /* it is paused; false: stopped */
	bool anyway;       /* also when the disk is nearly full: the host ends */
	const char *cause; /* of the event; "" = somebody asked; static */
	/* whether it is still to be, asked when its turn has come; NULL = it is */
	bool (*wanted)(const struct sandbox *sb);
	/* called once, maybe before rest_later() returns: @e is NULL when it rests, is not wanted
	 * to any more, or is gone (@sb is NULL then); else the error, and it is as it was */
	sandbox_done_fn done;
	void *arg;
};

/** rest_later() - have a sandbox paused or stopped when its turn comes, and an operation that is
 * under way then has ended; @wish is copied */
void rest_later(struct sandbox *sb, const struct rest_wish *wish);

/** rests_close() - at shutdown: whoever waits for a turn is told that there will be none */
void rests_close(struct manager *m);

/* What became of one of all. */
struct rest_result {
	struct sandbox_id id;
	char *name;       /* "" = it has none */
	struct err error; /* zeroed: it rests */
};

/* The results, in the order in which they came; borrowed for the call. */
typedef void (*rest_all_fn)(const struct rest_result *results, size_t n, void *arg);

/**
 * sandbox_rest_all() - have every sandbox come to rest that runs, or is about to
 * @memory:	they are paused; false: stopped
 * @done:	called once, maybe before this returns, when all rest or have failed to. One that is
 *		removed meanwhile is not among the results
 *
 * Those that are created after this call are not meant.
 */
void sandbox_rest_all(struct manager *m, bool memory, rest_all_fn done, void *arg);
