/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that do a part of vivd's work as nobody (viv-tls, viv-hook): jailed, with one socket
 * pair to vivd, whose end is their end. Each is the child of one owner, on the loop thread but for
 * its start.
 */
#pragma once

#include "base/err.h"
#include "daemon/config.h"
#include "os/spawn.h"

#include <uv.h>

struct helper {
	struct process process; /* pid 0 = none */
	int control;            /* owned: our end of a SOCK_SEQPACKET pair */
	uint64_t started_ns;
};

#define HELPER_INIT                                                                                \
	{                                                                                          \
		.process = PROCESS_INIT, .control = -1                                             \
	}

enum { HELPER_CONTROL_FD = 3 }; /* where it has its end of the pair */

enum helper_kind { HELPER_TLS = 1, HELPER_HOOK };

/** helper_uid() - user and group id of a kind of helper, behind those that VMMs of any instance may
 * have */
unsigned helper_uid(const struct config *c, enum helper_kind kind);

/**
 * helper_start() - start one
 * @argv:	ended by NULL; argv[0] is its path
 * @out:	helper_drop() ends it; its control blocks, as the starter may want
 *
 * Thread: worker (waits for the exec). Return: 0; -errno with @e set.
 */
must_check int helper_start(const char *const *argv, unsigned uid, struct helper *out,
			    struct err *e);

/** helper_drop() - kill it and take its status, which is at once; idempotent */
void helper_drop(struct helper *helper);

/**
 * helper_watch() - call @fn with @arg as data when a descriptor of it can be read
 * @out:	helper_unwatch() ends it
 *
 * Return: 0; -errno.
 */
must_check int helper_watch(uv_loop_t *loop, int fd, uv_poll_cb fn, void *arg, uv_poll_t **out);

/** helper_unwatch() - before the descriptor is closed; idempotent */
void helper_unwatch(uv_poll_t **handle);
