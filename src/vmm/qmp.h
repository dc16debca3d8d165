/* SPDX-License-Identifier: Apache-2.0 */
/*
 * QEMU's machine protocol: lines of JSON over a socket. One command at a time, or a few that were
 * sent together; events that arrive meanwhile are queued. Not for two threads at once.
 *
 * QEMU reads commands byte by byte, each at some ten system calls: 4 to 5 us on the machine of
 * doc/theory/checkpoints.md. Where a guest stands still meanwhile, what is short is fast.
 */
#pragma once

#include "base/op.h"

#include <jansson.h>

enum { QMP_LINE_MAX = 1 << 20, QMP_EVENTS_MAX = 64, QMP_COMMANDS_MAX = 4 };

struct qmp;

/**
 * qmp_new() - a client on a connected stream socket
 * @fd:		made non-blocking; owned by the client from here on, also after a failure
 *
 * Return: 0; -errno.
 */
must_check int qmp_new(int fd, struct qmp **out);

/** qmp_free() - close the connection and forget it; NULL is allowed */
void qmp_free(struct qmp *q);

/** qmp_handshake() - wait for the greeting and leave negotiation. Return: 0; -errno, op->err set */
must_check int qmp_handshake(struct qmp *q, struct op *op);

/** qmp_version() - what the greeting says of QEMU, "7.2.22"; "" = nothing; lives as long as @q */
const char *qmp_version(const struct qmp *q);

/**
 * qmp_execute() - run a command and wait for its reply
 * @args:	its arguments; borrowed; NULL = none
 * @out:	what it returned; the caller owns the reference; may be NULL
 *
 * Return: 0; -errno with op->err set: ERR_VMM when QEMU refused (with its class and description) or
 * the connection ended (-ECONNRESET).
 */
must_check int qmp_execute(struct qmp *q, const char *command, const json_t *args, json_t **out,
			   struct op *op);

struct qmp_command {
	const char *name;   /* borrowed until the reply was awaited */
	const json_t *args; /* NULL = none */
};

/**
 * qmp_begin() - send commands, which QEMU runs one after the other, and do not wait for them
 * @n:		1 .. QMP_COMMANDS_MAX
 *
 * A command that QEMU refuses does not keep it from the next one. Whoever runs another one before
 * qmp_finish() never learns how these went. Return: 0; -errno with op->err set.
 */
must_check int qmp_begin(struct qmp *q, const struct qmp_command *commands, size_t n,
			 struct op *op);

/** qmp_finish() - wait for the replies to all of them. Return: as qmp_execute(), of the first that
 * QEMU refused */
must_check int qmp_finish(struct qmp *q, struct op *op);

/**
 * qmp_add_fd() - give QEMU a descriptor, as "/dev/fdset/<set>"
 * @fd:		borrowed; QEMU gets a duplicate
 *
 * Return: 0; -errno with op->err set, as qmp_execute().
 */
must_check int qmp_add_fd(struct qmp *q, int fd, uint64_t *out_set, struct op *op);

/** qmp_remove_fds() - have QEMU close such a set once nothing uses it. Return: as qmp_execute() */
must_check int qmp_remove_fds(struct qmp *q, uint64_t set, struct op *op);

/** qmp_event_fd() - readable when qmp_next_event() has something to do; borrowed */
int qmp_event_fd(const struct qmp *q);

/**
 * qmp_next_event() - take an event that arrived; never waits
 * @out:	the event, whose reference the caller owns
 *
 * Return: 1; 0 none; -errno once the connection ended or broke, each time from then on.
 */
must_check int qmp_next_event(struct qmp *q, json_t **out);

/** qmp_await_event() - as qmp_next_event(), but waits for one. Return: 0; -errno, op->err set */
must_check int qmp_await_event(struct qmp *q, json_t **out, struct op *op);

/**
 * qmp_feed() - take bytes as if they had come from the socket (for tests of the parser)
 *
 * Return: 0; -EMSGSIZE a line is too long; -EBADMSG no QMP.
 */
must_check int qmp_feed(struct qmp *q, const char *p, size_t n);
