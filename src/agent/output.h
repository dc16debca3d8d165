/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process writes, and who listens.
 *
 * Theory of operation. Whatever comes out of the pipes goes into a ring, and out of the ring to all
 * listeners. Without listeners the ring keeps the last 1 MiB and the process is never held up; the
 * next listener begins with what was kept. With listeners the slowest sets the pace: while one is
 * blocked nothing is read from the pipes; one that stays blocked for 30 s is cut.
 *
 * When the leader has exited, what its pipes hold at that moment is forwarded, then the end event
 * (output_is_over()). Grandchildren may keep the pipes open for long: what they write from then on
 * is read and dropped, so that they neither block nor get SIGPIPE.
 */
#pragma once

#include "agent/connect.h"
#include "agent/ring.h"

#include <uv.h>

struct listener;
struct output;

struct output_pipe {
	struct output *output;
	int fd; /* owned; -1 = closed */
	uv_poll_t *poll;
	bool reading;
	size_t left; /* of a finished process: bytes to be forwarded yet */
};

struct output {
	uv_loop_t *loop;
	struct output_pipe pipes[2]; /* stdout, stderr */
	struct ring ring;
	struct listener *listeners;
	uv_timer_t *stall; /* runs only while a listener is blocked */
	char *end_event;   /* set once the leader has exited */
	bool updating;
	void (*on_change)(void *arg); /* over or idle may be true now; may free the output */
	void *arg;
};

/**
 * output_init() - watch the read ends of a process's stdout and stderr
 * @fds:	taken over when this succeeds
 *
 * Return: 0; -errno.
 */
must_check int output_init(struct output *o, uv_loop_t *loop, int fds[2],
			   void (*on_change)(void *arg), void *arg);

/** output_done() - close; no listener may be left; idempotent on a zeroed one */
void output_done(struct output *o);

/**
 * output_listen() - give a stream everything that was kept and everything from now on
 * @pid:	for the start event, which comes first
 * @starter:	this is the call that started the process
 */
void output_listen(struct output *o, struct connect_call *c, int64_t pid, bool starter);

/** output_fail_starter() - end the stream of the call that started the process, if it is there */
void output_fail_starter(struct output *o, enum connect_code code, const char *why);

/**
 * output_finish() - the leader has exited
 * @end_event:	JSON text of the end event; taken over
 */
void output_finish(struct output *o, char *end_event);

/** output_is_over() - whether all that the process wrote was read, so that the end may be told */
bool output_is_over(const struct output *o);

/** output_is_idle() - whether no listener and no pipe is left */
bool output_is_idle(const struct output *o);

/** output_forget() - drop what was kept: nobody will come for it */
void output_forget(struct output *o);
