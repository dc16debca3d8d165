/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process writes, and who listens.
 *
 * Theory of operation. Whatever comes out of the pipes or the terminal goes into a ring, which
 * keeps the last 1 MiB, sent or not; each listener reads the ring with a cursor of its own. Without
 * listeners the process is never held up. A listener begins where nobody has listened yet: the
 * first one after a while gets what was kept, further ones what comes from then on. One that names
 * positions begins there, if that is still held. With listeners the slowest sets the pace: while
 * one is blocked nothing is read from the process; one that stays blocked for 30 s is cut.
 *
 * When the leader has exited, what its pipes hold at that moment is forwarded, then the end event
 * (output_is_over()). Grandchildren may keep the pipes open for long: what they write from then on
 * is read and dropped, so that they neither block nor get SIGPIPE. A terminal is the same, but that
 * the kernel does not say how much it holds: it is read until nothing comes, or as much as it could
 * have held.
 */
#pragma once

#include "agent/connect.h"
#include "agent/ring.h"

#include <uv.h>

struct listener;
struct output;

enum output_stream { OUTPUT_STDOUT, OUTPUT_STDERR, OUTPUT_PTY, OUTPUT_STREAM_N };
static_assert((int)OUTPUT_STREAM_N == (int)RING_STREAMS, "the ring has room for each stream");

/* Where the output comes from. */
struct output_source {
	int *fds; /* read ends of stdout and stderr, or a terminal and -1; taken over on success */
	bool pty;
	struct ring_budget *budget;   /* borrowed */
	void (*on_change)(void *arg); /* over or idle may be true now; may free the output */
	void (*reclaim)(void *arg);   /* the budget is used up: output_reclaim() some */
	void *arg;
};

struct output_pipe {
	struct output *output;
	int fd; /* owned; -1 = closed */
	uv_poll_t *poll;
	uint8_t stream;
	bool reading;
	size_t left; /* of a finished process: bytes to be forwarded yet, for a pty the most */
};

struct output {
	uv_loop_t *loop;
	struct output_pipe pipes[2]; /* stdout and stderr, or the terminal alone */
	struct ring ring;
	struct ring_cursor heard; /* what is before it was sent to somebody */
	struct listener *listeners;
	uv_timer_t *stall; /* runs only while a listener is blocked */
	char *end_event;   /* set once the leader has exited */
	bool updating;
	bool forgotten; /* nobody new will come */
	void (*tap)(enum output_stream s, const void *p, size_t n, void *arg); /* NULL = none */
	void *tap_arg;
	void (*on_change)(void *arg);
	void (*reclaim)(void *arg);
	void *arg;
};

/** output_init() - watch what a process will write. Return: 0; -errno */
must_check int output_init(struct output *o, uv_loop_t *loop, const struct output_source *source);

/** output_done() - close; no listener may be left; idempotent on a zeroed one */
void output_done(struct output *o);

/* A call that wants the output. */
struct output_listen {
	int64_t pid;          /* for the start event, which comes first */
	const uint64_t *from; /* positions, one per stream; NULL = where nobody has listened yet */
	bool starter;         /* this is the call that started the process */
	bool end_only;        /* it wants none of the output, which stays for others */
};

/** output_listen() - give a stream everything from a position on; fails it if that is not held */
void output_listen(struct output *o, struct connect_call *c, const struct output_listen *spec);

/** output_tap() - hand each piece over as it is read, besides what listeners get; nobody waits for
 * the tap; NULL = no more */
void output_tap(struct output *o,
		void (*fn)(enum output_stream s, const void *p, size_t n, void *arg), void *arg);

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

/** output_forget() - nobody new will come: drop what is kept once the last listener has left */
void output_forget(struct output *o);

/** output_reclaim() - give up what is only kept for replay */
void output_reclaim(struct output *o);
