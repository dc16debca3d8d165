/* SPDX-License-Identifier: Apache-2.0 */
/* What pausing costs without a daemon: the state of a running VM, written to files and synced. */
#pragma once

#include "floor-exec.h"
#include "vmm/vmm.h"

struct floor_save {
	uint64_t stall_ns;   /* from the moment that the vCPUs are told to stop until all of it is
			      * written */
	uint64_t durable_ns; /* from the beginning until all of it is synced */
	uint64_t stored_pages;
};

/**
 * floor_save() - write memory while the guest runs, freeze its processes, pause the VM, write
 * devices and the rest of memory, sync all
 * @restore:	what the VM began with
 * @dirfd:	directory of the new files; borrowed
 *
 * Return: 0; -errno with op->err set. The VM stays paused.
 */
must_check int floor_save(struct vmm *vmm, const struct vmm_restore *restore,
			  const struct floor_guest *guest, int dirfd, struct floor_save *out,
			  struct op *op);
