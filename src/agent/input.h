/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process reads: from a pipe, or from its terminal. Everything is written in order, one
 * piece at a time. A call is answered when its bytes are written, so a client that waits for the
 * answers goes as fast as the process reads; a stream of pieces is held back by not reading its
 * body.
 */
#pragma once

#include "agent/connect.h"

#include <uv.h>

struct input_item;
struct input_stream;

struct input {
	int fd; /* owned, non-blocking; -1 = closed or never there */
	bool pty;
	uv_poll_t *poll;
	bool waiting; /* the poll is started: the pipe is full */
	struct input_item *first;
	struct input_item **tail;
	struct input_stream *streams;
};

/**
 * input_init() - write to a process
 * @fd:		write end or terminal, taken over when this succeeds; -1 = the process has no stdin
 * @pty:	it is a terminal
 *
 * Return: 0; -errno.
 */
must_check int input_init(struct input *in, uv_loop_t *loop, int *fd, bool pty);

/** input_done() - close; calls that wait fail with @why; idempotent on a zeroed one */
void input_done(struct input *in, const char *why);

/** input_send() - write what a request's field "input" holds, then answer @c */
void input_send(struct input *in, struct connect_call *c, const json_t *request);

/** input_stream() - write what the further messages of a client stream hold; answer at its end */
void input_stream(struct input *in, struct connect_call *c);

/** input_give() - write bytes, which are taken over, and close the pipe behind them. A process that
 * does not want them is its own affair */
void input_give(struct input *in, char *data, size_t n);

/** input_close() - close the pipe behind what is queued, then answer @c; a terminal has no end */
void input_close(struct input *in, struct connect_call *c);
