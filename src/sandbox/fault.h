/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fault points, for the tests of undo and recovery. A rule is "PLAN.STEP.WHEN=ACTION", for example
 * "create.slot.before=fail": PLAN is a plan's name, "release", "network" with the one step "rules"
 * (which, done, cannot fail any more), or "pool" with the one point pool.fill.before; WHEN is
 * before or after, ACTION is fail (the step reports an error), kill (the daemon ends by SIGKILL,
 * as if by kill -9) or stop (it stops by SIGSTOP; whoever set the rule does something to the world
 * and sends SIGCONT, and it goes on as if no time had passed). It is the hidden setting `fault` of
 * vivd; without it a fault point is one comparison with NULL.
 */
#pragma once

#include "base/op.h"

/** fault_valid() - whether a string is a rule */
bool fault_valid(const char *rule);

/**
 * fault_point() - fail, die or stop here if the rule says so
 * @rule:	NULL = never
 * @when:	"before" or "after"
 *
 * Return: 0; -EIO with @e set.
 */
must_check int fault_point(const char *rule, const char *plan, const char *step, const char *when,
			   struct err *e);
