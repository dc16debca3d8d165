/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One operation, as it travels through every blocking call: who it is, until when it may take,
 * what ends it early, and the error it ended with. Owned by one worker at a time.
 */
#pragma once

#include "base/err.h"

/* What can end every wait of an op early, beside its deadline and its cancellation. */
struct op_watch {
	int fd;                 /* readable = there is something to look at; borrowed; -1 = none */
	int (*look)(void *arg); /* takes what is there. Return: 0 the wait goes on; -errno it ends
				 * with that */
	void *arg;
};

struct op {
	uint64_t id;          /* unique within a daemon's life; on every log line and 500 reply */
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0 = none */
	int cancel_fd;        /* readable = give up; -1 = cannot be cancelled; borrowed */
	const char *fault;    /* the fault rule of this daemon, for the plan engine; NULL = none */
	uint64_t *waited_ns;  /* adds up what op_wait_fd() waits for a VMM and its guest, not for
			       * programs that are a part of our own work; NULL = nobody asks */
	const struct op_watch *watch; /* looked at before and while op_wait_fd() waits; NULL = none;
				       * borrowed */
	struct err err;
};

/**
 * op_init() - start an operation with a new id
 * @timeout_ms:	from now; 0 = no deadline
 * @cancel_fd:	borrowed for the life of the op; -1 = cannot be cancelled
 */
void op_init(struct op *op, uint64_t timeout_ms, int cancel_fd);

/** op_child() - an op with the same id, cancel_fd and watch and an own error, ending at the sooner
 * of both deadlines; @timeout_ms 0 = the parent's deadline */
struct op op_child(const struct op *parent, uint64_t timeout_ms);

/** op_poll_ms() - milliseconds until the deadline for poll(2): -1 = none, 0 = passed */
int op_poll_ms(const struct op *op);

/** op_check() - whether it may go on. Return: 0; -ETIMEDOUT; -ECANCELED. Does not set op->err */
must_check int op_check(const struct op *op);

/**
 * op_wait_fd() - wait until a descriptor is ready
 * @fd:		descriptor; -1 waits for nothing but the deadline and the cancellation
 * @events:	POLLIN or POLLOUT; POLLHUP and POLLERR end the wait too
 * @also_fd:	a second descriptor whose POLLIN ends the wait (a pidfd, say); -1 = none
 *
 * Thread: worker. Return: 1 @fd is ready; 2 only @also_fd is; -ETIMEDOUT; -ECANCELED; what the op's
 * watch said; -errno. Does not set op->err.
 */
must_check int op_wait_fd(const struct op *op, int fd, short events, int also_fd);
