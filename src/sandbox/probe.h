/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether agents answer.
 *
 * Theory of operation. The agent of each sandbox that runs is asked for its health now and then,
 * seldom enough that neither its guest nor vivd has work of it (setting agent_probe_s); not while
 * an operation has the VM, or the guest stands still for want of disk. One that answered anything
 * else meanwhile is not asked. If it misses PROBE_MISSES of them in a row, each with time to spare
 * (agent_probe_timeout_s), the sandbox has a condition that tells, and its restart policy, if it
 * has one and tries are left, ends its VM, which is a failure like any other. Without one it is
 * left alone: a guest that is only very busy is not harmed, and the next answer takes the condition
 * away. A daemon that was held up itself blames nobody: an answer that may have waited for it is no
 * miss.
 *
 * That a guest was asked is no use of it: metrics.c and idle.c take it off.
 */
#pragma once

#include "sandbox/sandbox.h"

enum { PROBE_MISSES = 3, PROBE_BYTES = 2048 /* of a link, at most, both ways */ };

struct http_fetch;

struct agent_probe {
	struct http_fetch *fetch; /* NULL = none is under way */
	uint64_t begun_ns;
	uint64_t next_ns; /* CLOCK_MONOTONIC */
	unsigned missed;  /* in a row */
	uint64_t sent;    /* of all */
	bool ended;       /* its VM was ended because it was silent */
};

/** probe_start(), probe_stop() - with the watch of its VM; idempotent. Thread: loop, as all here */
void probe_start(struct sandbox *sb);
void probe_stop(struct sandbox *sb);

/** probe_tick() - ask those whose time has come; once a second */
void probe_tick(struct manager *m);

/** probe_answered() - its agent answered somebody */
void probe_answered(struct sandbox *sb);

/** probe_is_miss() - whether an answer that did not come counts, of a probe that was given up
 * @took_ms after it began, and was to be so after @timeout_ms */
bool probe_is_miss(uint64_t took_ms, uint64_t timeout_ms);
