/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools: a template may have sandboxes that are kept ready, which a create of its sizes claims
 * (doc/theory/warm.md). They are nobody's: no list has them, and no event tells of them. All
 * functions are called on the loop thread.
 */
#pragma once

#include "base/limits.h"
#include "sandbox/sandbox.h"
#include "store/pools.h"

enum { READY_POOLS_MAX = 32 };

/* A template's pool, as it is now. */
struct ready_view {
	struct db_pool wish;
	unsigned ready;        /* how many there are */
	uint64_t memory_bytes; /* that those which are there take of the host's memory */
	uint64_t disk_bytes;   /* and of its disk */
	char error[sizeof(((struct err *)NULL)->msg)]; /* why the last one could not be made; "" */
	uint64_t again_ms; /* when that is tried again, CLOCK_REALTIME; 0 = when it can be */
};

/** ready_view() - how a template's pool is. Return: false: it has none */
bool ready_view(const struct manager *m, const char *template_name, struct ready_view *out);

/**
 * ready_set() - have a template keep sandboxes ready, from now on and over restarts
 * @wish:	its size is at most POOL_SIZE_MAX; 0 = none any more, also if there is no such
 *		template
 *
 * They are made in the background. Return: 0; -errno with @e set, and nothing changed
 * (ERR_NOT_FOUND no such template; ERR_INVALID; ERR_CONFLICT the settings of vivd forbid it).
 */
must_check int ready_set(struct manager *m, const struct db_pool *wish, struct err *e);

/** ready_count() - how many sandboxes wait in all pools */
size_t ready_count(const struct manager *m);
