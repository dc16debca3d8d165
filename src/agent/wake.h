/* SPDX-License-Identifier: Apache-2.0 */
/* The part of POST /init that is of a restored guest: what it must not have in common with others.
 */
#pragma once

#include "agent/agent.h"

struct wake {
	bool clone;          /* others have the same memory: what names this machine becomes new */
	uint64_t disk_bytes; /* the root disk has grown to this; 0 = it has not */
	bool rehearsal; /* it is told again before anybody gets it: processes stay frozen. Until
			      * then the host may start some beside them, for practice */
};

/**
 * wake_up() - renew what a restored guest must not keep, and let its processes go on
 * @out_what:	what failed, static storage
 *
 * Entropy, clock and host name are set already: the processes see nothing older. Return: 0; -errno.
 */
must_check int wake_up(struct agent *a, const struct wake *wake, const char **out_what);
