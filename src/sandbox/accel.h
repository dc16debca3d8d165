/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How guests are run: with the CPU's help (KVM), or emulated (TCG). The setting `acceleration` says
 * it, or leaves it open (auto): then it is KVM once a guest has reached userspace under it, and TCG
 * until then and otherwise (doc/theory/acceleration.md).
 */
#pragma once

#include "base/id.h"

struct manager;

enum { ACCEL_WHY_SIZE = 320 };

/* What a sandbox that is created now gets, and why. */
struct accel_verdict {
	const char *name;         /* "kvm" or "tcg"; static storage */
	bool decided;             /* false: not found out yet, TCG meanwhile */
	char why[ACCEL_WHY_SIZE]; /* for people; printable ASCII */
};

/** manager_acceleration() - the verdict as it is now. Thread: loop; valid until the loop runs again
 */
const struct accel_verdict *manager_acceleration(const struct manager *m);

/** accel_owns() - whether a probe under way has this id: its directory and cgroup are no leftovers,
 * though no sandbox owns them. Thread: loop */
bool accel_owns(const struct manager *m, const struct sandbox_id *id);

/**
 * accel_start() - begin to find out whether KVM works, in the background, if that is open
 *
 * Does nothing once it is decided, while it is being found out, and in a shutdown. What a probe
 * needs (a guest's kernel) may not be there yet: the next call tries again. Thread: loop.
 */
void accel_start(struct manager *m);
