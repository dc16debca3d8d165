/* SPDX-License-Identifier: Apache-2.0 */
/* The host's side of the guest agent: waiting for it, and telling it who it is. Workers only. */
#pragma once

#include "base/guestwords.h"
#include "base/op.h"
#include "http/client.h"

#include <jansson.h>
#include <netinet/in.h>

/**
 * guest_wait_ready() - wait for the agent's line on the console of a booting guest
 * @console_fd:	non-blocking; borrowed
 * @vmm_pidfd:	its POLLIN ends the wait: the VMM died
 * @feed:	gets every byte that was read, for the console's ring
 *
 * Return: 0; -errno with op->err set: ERR_VMM the VMM ended; ERR_AGENT the agent said why it cannot
 * go on
 * ("viv-agent: fatal: …"), the kernel panicked, or the deadline passed.
 */
must_check int guest_wait_ready(int console_fd, int vmm_pidfd,
				void (*feed)(const char *p, size_t n, void *arg), void *arg,
				struct op *op);

/* A guest that was restored instead of booted. */
struct guest_wake {
	bool clone;          /* others have the same memory: machine-id and boot-id become new */
	bool rehearsal;      /* nobody gets it before it is told again: its processes stay frozen */
	uint64_t disk_bytes; /* its disk has grown to this: so does the file system; 0 = no */
};

/* What POST /init carries. Everything is borrowed. */
struct guest_identity {
	const char *id;
	const char *template_id;
	const char *hostname;
	const char *default_user;      /* NULL = the agent's: root */
	const char *default_workdir;   /* NULL or "" = the user's home */
	const char *access_token;      /* NULL = none is asked for */
	const json_t *env;             /* object of strings; NULL = {} */
	const struct guest_wake *wake; /* NULL = it was booted, and no process waits */
};

/**
 * guest_init() - tell the agent who it is, the time, fresh entropy and the environment
 * @addr:		the guest as the host sees it
 * @vmm_pidfd:		its POLLIN ends the wait; -1 = none
 * @out_version:	the agent's version; array of @size bytes
 *
 * Return: 0; -errno with op->err set.
 */
must_check int guest_init(struct in_addr addr, const struct guest_identity *identity, int vmm_pidfd,
			  char *out_version, size_t size, struct op *op);

/**
 * guest_freeze() - have the guest's processes stand still, before its VM is paused
 * @sync:	also have its disk be synced, as it must be when its memory is not kept
 *
 * Return: 0; -errno with op->err set: nothing can be said of the guest then but by guest_thaw().
 */
must_check int guest_freeze(struct in_addr addr, bool sync, int vmm_pidfd, struct op *op);

/** guest_thaw() - let its processes go on; no error if they do. Return: 0; -errno with op->err set
 */
must_check int guest_thaw(struct in_addr addr, int vmm_pidfd, struct op *op);

/* A connection to the agent, made while nothing waits for it: when the guest's processes stand
 * still, each round trip counts. A zeroed one is closed. */
struct guest_line {
	struct http_client *client; /* owned; NULL = closed */
};

/** guest_line_open() - connect, and hear from the agent once. Return: 0; -errno, op->err set */
must_check int guest_line_open(struct guest_line *line, struct in_addr addr, int vmm_pidfd,
			       struct op *op);

/** guest_line_freeze() - as guest_freeze() without sync */
must_check int guest_line_freeze(struct guest_line *line, struct op *op);

/** guest_line_begin_thaw() - ask for what guest_thaw() does, and do not wait; a guest whose vCPUs
 * do not run yet finds the request when they do. Return: 0; -errno with op->err set */
must_check int guest_line_begin_thaw(struct guest_line *line, struct op *op);

/** guest_line_finish_thaw() - wait for it. Return: 0; -errno with op->err set */
must_check int guest_line_finish_thaw(struct guest_line *line, struct op *op);

/** guest_line_done() - close it; idempotent */
void guest_line_done(struct guest_line *line);

/** guest_health() - whether the agent answers GET /health. Return: 0; -errno with op->err set */
must_check int guest_health(struct in_addr addr, int vmm_pidfd, struct op *op);
