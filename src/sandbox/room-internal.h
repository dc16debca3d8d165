/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of sandbox/ ask before they begin. Thread: loop. */
#pragma once

#include "sandbox/room.h"

/* What is about to begin. */
struct room_wish {
	unsigned vms;        /* that are made; 0 = only the disk is written to */
	uint64_t memory_mib; /* of each */
	bool disk;           /* it is sure to take room there */
	bool asked;          /* by somebody: what waits in pools gives way */
};

/**
 * room_check() - is there room for it?
 *
 * Return: 0; -errno with @e set (ERR_EXHAUSTED: what there is too little of, and which setting or
 * verb helps).
 */
must_check int room_check(struct manager *m, const struct room_wish *wish, struct err *e);

/** room_check_disk() - as room_check(), of what makes no VM */
must_check int room_check_disk(struct manager *m, struct err *e);

/** room_look() - see how full the disk is, and log when it comes below the reserve, and when there
 * is room again; each second while a VM is watched, and with each check */
void room_look(struct manager *m, struct room_disk *out);

/** room_tell_limits() - at start: log which limit of the process or the host is lower than what as
 * many sandboxes take as there are slots */
void room_tell_limits(void);
