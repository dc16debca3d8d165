/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether agents answer.
 *
 * Theory of operation. The agent of each sandbox that runs is asked now and then, seldom enough
 * that neither its guest nor vivd has work of it (setting agent_probe_s); not while an operation
 * has the VM, or the guest stands still for want of disk. If it misses PROBE_MISSES of them in a
 * row, each with time to spare (agent_probe_timeout_s), the sandbox has a condition that tells,
 * and its restart policy, if it has one and tries are left, ends its VM, which is a failure like
 * any other. Without one it is left alone: a guest that is only very busy is not harmed, and the
 * next answer takes the condition away. A daemon that was held up itself blames nobody: an answer
 * that may have waited for it is no miss.
 *
 * What they are asked is the time. One whose clock is wrong by more than the way there and back can
 * explain is told by how much. All are asked at once when the host's own clock jumped against
 * CLOCK_MONOTONIC, which it does when somebody set it, and when the host has slept; and one that
 * stood still is, when it goes on.
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
	uint64_t next_ns;    /* CLOCK_MONOTONIC */
	unsigned missed;     /* in a row */
	uint64_t sent;       /* of all */
	bool ended;          /* its VM was ended because it was silent */
	int64_t clock_by_ns; /* what its clock is being corrected by */
};

/** probe_start(), probe_stop() - with the watch of its VM; idempotent. Thread: loop, as all here */
void probe_start(struct sandbox *sb);
void probe_stop(struct sandbox *sb);

/** probe_tick() - ask those whose time has come; once a second */
void probe_tick(struct manager *m);

/** probe_soon() - ask one at the next tick */
void probe_soon(struct sandbox *sb);

/** probe_answered() - its agent answered somebody */
void probe_answered(struct sandbox *sb);

/**
 * probe_clock_error() - how much a guest's clock is to be put forward, ns; 0 = it is right, as far
 * as anybody can tell
 * @guest_ns:	what it said
 * @host_ns:	CLOCK_REALTIME when its answer was here
 * @took_ns:	since it was asked
 */
int64_t probe_clock_error(uint64_t guest_ns, uint64_t host_ns, uint64_t took_ns);

/**
 * probe_clock_jump() - how far the host's clock was put forward since this was called last, ns; 0 =
 * it went on as it should, or nobody knows
 * @was_ns:	what is kept between two calls; 0 = this is the first one
 * @realtime_ns, @monotonic_ns:	both clocks, now
 */
int64_t probe_clock_jump(int64_t *was_ns, uint64_t realtime_ns, uint64_t monotonic_ns);

/** probe_is_miss() - whether an answer that did not come counts, of a probe that was given up
 * @took_ms after it began, and was to be so after @timeout_ms */
bool probe_is_miss(uint64_t took_ms, uint64_t timeout_ms);
