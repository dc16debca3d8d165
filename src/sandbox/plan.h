/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plans: one const table of steps per operation, walked forward to acquire and backward to release.
 * Creation, its undoing, destroy, the end of a dead VM and the start of the daemon all use the same
 * functions of the same tables (doc/theory/plans.md).
 *
 * The rules that the engine keeps:
 *  - a failing step is released too, since it may be half done; then the steps before it,
 * backwards;
 *  - unwinding never stops at a failing release and cannot be cancelled; failures are logged and
 * counted, so that the reaper can try again;
 *  - data is released only when all that is volatile is gone: no file is deleted under a living
 * VMM;
 *  - every acquire and release is timed, logged at debug, and has fault points before and after it.
 */
#pragma once

#include "base/op.h"

struct sandbox;

enum step_life {
	STEP_VOLATILE, /* dies with the VM or the boot */
	STEP_DATA,     /* bytes that a user would miss */
};

struct step {
	const char *name; /* stable: logged, timed, fault-injected */
	enum step_life life;
	int (*acquire)(struct sandbox *, struct op *); /* may fail half-way */
	int (*release)(struct sandbox *, struct op *); /* idempotent; absent = success; needs only
							* the id; NULL = nothing is held */
	int (*adopt)(struct sandbox *,
		     struct op *); /* 1 alive and ours, 0 gone, < 0 unsure; NULL = 1 */
};

struct plan {
	const char *name; /* "create" */
	const struct step *steps;
	size_t n;
};

enum { PLAN_STEPS_MAX = 24 };

/* How long each step of the last run took. What was not waiting is the manager's own share. */
struct plan_timing {
	struct {
		const char *name; /* of the step; static storage */
		uint64_t ns;
		uint64_t waited_ns; /* of these, for the VMM and its guest */
	} steps[PLAN_STEPS_MAX];
	size_t n;
	uint64_t total_ns;
	uint64_t waited_ns;
};

/** plan_timing_add() - add what was done besides the steps of a plan
 * @name:	static storage
 * @waited_ns:	as of a step */
void plan_timing_add(struct plan_timing *timing, const char *name, uint64_t ns, uint64_t waited_ns);

/**
 * plan_run() - acquire all steps in order
 * @timing:	what was done is added; NULL is allowed
 * @out_leaks:	after a failure, how many releases failed on the way back
 *
 * Thread: worker. Return: 0 all acquired; -errno with op->err set: nothing is held any more but the
 * leaks.
 */
must_check int plan_run(const struct plan *plan, struct sandbox *sb, struct op *op,
			struct plan_timing *timing, unsigned *out_leaks);

/**
 * plan_release() - release the steps of a plan, backwards
 * @data:	also those that hold data (destroy, undo), not only the volatile ones
 * @fault:	the daemon's fault rule, NULL = none
 *
 * Thread: worker. Cannot be cancelled; each step has a deadline of its own (30 s).
 * Return: the number of releases that failed; data that was kept because of them counts too.
 */
must_check unsigned plan_release(const struct plan *plan, struct sandbox *sb, bool data,
				 const char *fault);

/**
 * plan_adopt() - find again what an earlier daemon acquired
 *
 * Thread: worker. Return: 1 everything is alive; 0 a step is gone; < 0 unsure, op->err says of
 * what.
 */
must_check int plan_adopt(const struct plan *plan, struct sandbox *sb, struct op *op);
