/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guests that stand still because the host's disk is full, or fails.
 *
 * Theory of operation. A guest whose write finds no room gets no error, which it would take for a
 * broken disk: its VMM stops it in the middle of that write, says so, and writes again when it is
 * told to go on. So nothing is lost, as long as it takes. The sandbox is running still, for its row
 * and its clients, and has a condition that tells; what would need its agent is refused. Each
 * second of a tick that is there anyway (metrics.c) it is seen whether there is room again, or
 * whether it is time to try once more, and then a worker has the VMM go on. Whether that was
 * enough the next tick tells: if the guest runs then, the condition is gone. Tries are further and
 * further apart, until it has run for a while.
 *
 * A guest that stood still in the middle of an operation (listen.h) could not be told of the way
 * back: so with each try its processes are let go on, which is nothing where they do.
 *
 * What a vivd that is killed knows of this the next one hears from the VMM.
 */
#pragma once

#include "sandbox/room.h"
#include "sandbox/sandbox.h"
#include "vmm/vmm.h"

struct frozen {
	bool trying;       /* it was told to go on, and has not said yet that it cannot */
	uint64_t again_ns; /* when it is told so next, CLOCK_MONOTONIC */
	uint64_t wait_ms;  /* back-off */
	uint64_t since_ns; /* when it went on last; 0 = never */
};

/** frozen_note() - its VMM said that it stands still (VMM_EVENT_NO_SPACE, VMM_EVENT_IO_ERROR).
 * Thread: loop */
void frozen_note(struct sandbox *sb, enum vmm_event event);

/** frozen_tick() - have those go on that may be able to. Thread: loop, once a second */
void frozen_tick(struct manager *m, const struct room_disk *disk);

/** frozen_check() - whether its agent can do anything. Return: 0; -errno with @e set (ERR_CONFLICT:
 * it stands still) */
must_check int frozen_check(const struct sandbox *sb, struct err *e);

/** frozen_may_go_on() - whether there is so much room that a guest is told to go on */
bool frozen_may_go_on(const struct room_disk *disk);
