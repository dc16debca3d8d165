/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a process reads. Requests are written in order, one at a time; each is answered when its
 * bytes are in the pipe, so a client that waits for the answers goes as fast as the process reads.
 */
#pragma once

#include "agent/connect.h"

#include <uv.h>

struct input_item;

struct input {
	int fd; /* owned, non-blocking; -1 = closed or never there */
	uv_poll_t *poll;
	bool waiting; /* the poll is started: the pipe is full */
	struct input_item *first;
	struct input_item **tail;
};

/**
 * input_init() - write to a process's stdin
 * @fd:		write end, taken over when this succeeds; -1 = the process has no stdin
 *
 * Return: 0; -errno.
 */
must_check int input_init(struct input *in, uv_loop_t *loop, int *fd);

/** input_done() - close; calls that wait fail with @why; idempotent on a zeroed one */
void input_done(struct input *in, const char *why);

/** input_write() - write @n bytes, then answer @c; @data is taken over */
void input_write(struct input *in, struct connect_call *c, char *data, size_t n);

/** input_close() - close the pipe behind what is queued, then answer @c */
void input_close(struct input *in, struct connect_call *c);
