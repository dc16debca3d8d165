/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What sandboxes use: sampled from the host each second, without their guests; see
 * doc/theory/metrics.md. All functions are called on the loop.
 */
#pragma once

#include "sandbox/sandbox.h"
#include "sandbox/series.h"

struct metrics_now {
	bool sampled;
	struct series_sample last; /* if sampled */
	uint64_t mem_total;        /* as the guest told last; 0 = it never did */
	uint64_t disk_total;
	uint64_t guest_ms;       /* when it did, CLOCK_REALTIME */
	uint64_t guest_requests; /* how often its agent was asked by this daemon */
	uint64_t cpu_ns;         /* CPU time of its VMs, since the sandbox was made */
};

/** metrics_now() - what is known of a sandbox now */
struct metrics_now metrics_now(const struct sandbox *sb);

/** metrics_series() - its samples; borrowed until the loop runs again */
const struct series *metrics_series(const struct sandbox *sb);

/**
 * metrics_ask() - have a new sample with the guest's part in it
 * @done:	called once, later, when it is there or will not come; the sandbox may be gone then
 *
 * The guest is asked only if what it told is older than 5 s, and not if it is not running or did
 * not answer lately.
 * Return: 1 what is there is all there is, @done is not called; 0 @done will be.
 */
must_check int metrics_ask(struct sandbox *sb, void (*done)(void *arg), void *arg);

enum { CREATE_BUCKETS = 12 };

/* How creates ended, since the daemon began. */
struct create_stats {
	uint64_t ok;
	uint64_t failed;
	uint64_t cancelled;              /* by their caller, or by a destroy */
	uint64_t within[CREATE_BUCKETS]; /* of the ok ones: not longer than the bound */
	uint64_t total_ns;               /* of the ok ones */
};

/* Seconds; the last bucket of a histogram, +Inf, is `ok`. */
extern const double create_bounds_s[CREATE_BUCKETS];

/** create_stats_add() - count a create that succeeded in @ns */
void create_stats_add(struct create_stats *s, uint64_t ns);

/** manager_create_stats() - of all creates; borrowed */
const struct create_stats *manager_create_stats(const struct manager *m);
