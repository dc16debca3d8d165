/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream of one process in a sandbox, from Start or Connect: envelopes (1 byte of flags, 4
 * bytes of length, JSON), first the pid, then output as it comes, then the end, then an envelope
 * with the end flag.
 */
#pragma once

#include "cli/guest.h"

enum process_event_kind {
	PROCESS_STARTED, /* pid and pty hold */
	PROCESS_OUTPUT,  /* fd, bytes, n */
	PROCESS_ENDED,   /* code */
	PROCESS_FAILED,  /* code, message: the agent could not do what was asked */
};

struct process_event {
	enum process_event_kind kind;
	json_int_t pid;
	bool pty;          /* the process has a terminal */
	int fd;            /* of ours: STDOUT_FILENO (a terminal's too) or STDERR_FILENO */
	const char *bytes; /* until the next event */
	size_t n;
	int code;            /* an exit code, as shells have them */
	const char *message; /* until the next event */
};

struct process_stream {
	struct http_client client; /* its fd is for the caller's poll */
	const char *sandbox;       /* its id, for messages; borrowed */
	struct buf in;             /* bytes of envelopes */
	json_t *message;           /* what that event points into; owned */
	char *bytes;               /* the same; owned */
	bool starts;               /* it is of Start: an error may be about the command */
	bool started;
	bool over; /* the last envelope came */
};

enum { PROCESS_ENVELOPE_MAX_BYTES = 8 << 20 };

#define PROCESS_STREAM_INIT                                                                        \
	{                                                                                          \
		.client = HTTP_CLIENT_INIT, .in = BUF_INIT(PROCESS_ENVELOPE_MAX_BYTES + 65536)     \
	}

/**
 * process_stream_open() - ask for a stream
 * @s:		PROCESS_STREAM_INIT
 * @method:	"Start" or "Connect"
 * @request:	borrowed; NULL = what was to be in it is not UTF-8
 *
 * Return: 0; -errno with op->err set.
 */
must_check int process_stream_open(struct process_stream *s, const struct guest *g,
				   const char *method, const json_t *request, struct op *op);

/**
 * process_stream_next() - the next event of those that have arrived; never waits
 *
 * Return: 1 @out is set; 0 the stream is over; -EAGAIN nothing more is there yet, op->err not set;
 * -errno with op->err set.
 */
must_check int process_stream_next(struct process_stream *s, struct process_event *out,
				   struct op *op);

/** process_stream_wait() - the next event, waiting for it. Return: 1; 0; -errno with op->err set */
must_check int process_stream_wait(struct process_stream *s, struct process_event *out,
				   struct op *op);

/** process_stream_done() - close and free; idempotent */
void process_stream_done(struct process_stream *s);

#define auto_process_stream cleanup(process_stream_done) struct process_stream
