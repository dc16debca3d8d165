/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a program in a guest and waiting until it says that it is ready. Workers only. */
#pragma once

#include "base/op.h"

#include <netinet/in.h>

/* All is borrowed. */
struct guest_start {
	struct in_addr addr; /* the guest as the host sees it */
	int vmm_pidfd;       /* its POLLIN ends the wait; -1 = none */
	const char *token;   /* NULL or "" = the agent asks for none */
	const char *command; /* a line for the guest's /bin/sh, run as its default user */
	const char *ready;   /* see template/start.h */
};

/** guest_ready_check() - whether a condition can be looked for: a port that is none, or a URL of
 * another machine, cannot. Return: 0; -EINVAL with @e set */
must_check int guest_ready_check(const char *ready, struct err *e);

/**
 * guest_start_rehearse() - have a guest whose processes are frozen run a command of ours, of which
 * nothing is left but that it and its VMM have done that once
 * @start:	command and condition are ignored
 *
 * A guest without /bin/sh will do as well as it can. Return: 0 it is over; -errno with op->err set:
 * there was no answer.
 */
must_check int guest_start_rehearse(const struct guest_start *start, struct op *op);

/**
 * guest_start_run() - start it, and return when it is ready; it goes on without us
 *
 * A condition is looked at again and again, some times a second: what is started belongs to others,
 * and tells nobody. A command that puts itself into the background and ends with code 0 may become
 * ready still; with any other end it cannot.
 *
 * Return: 0; -errno with op->err set: ERR_TIMEOUT says what was last seen; ERR_AGENT, how it ended
 * and what it wrote last.
 */
must_check int guest_start_run(const struct guest_start *start, struct op *op);
