/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What server and proxy share about libuv streams: one read buffer for all connections of a loop,
 * queued output with water marks, and the ways to end a stream. Loop thread only.
 *
 * Streams are memory of their own (from malloc), apart from the objects that use them: closing one
 * frees it later, from the loop, and its last user need not wait for that.
 */
#pragma once

#include "base/buf.h"

#include <uv.h>

enum {
	HTTP_READ_BYTES = 64 << 10,
	HTTP_OUTPUT_HIGH = 256 << 10,
	HTTP_OUTPUT_LOW = 64 << 10,
	HTTP_OUTPUT_MAX = 64 << 20, /* a writer who ignores the marks fails here */
};

/* Where all streams of a server read into: what was read is used up before the next read. */
struct http_rbuf {
	unsigned refs;
	char bytes[HTTP_READ_BYTES];
};

/** http_rbuf_new() - a read buffer with one reference */
struct http_rbuf *http_rbuf_new(void);

/** http_rbuf_ref() - one more reference to a read buffer. Return: @b */
struct http_rbuf *http_rbuf_ref(struct http_rbuf *b);

/** http_rbuf_unref() - drop a reference; the last one frees */
void http_rbuf_unref(struct http_rbuf *b);

struct http_write;

/* The output of one stream: what the kernel does not take at once waits here. */
struct http_output {
	uv_stream_t *stream;        /* borrowed */
	struct http_write *writing; /* in libuv's hands; NULL = none */
	struct buf pending;         /* goes out when `writing` is done */
	bool blocked;               /* went above HTTP_OUTPUT_HIGH; see http_output_drained() */
	uint64_t accepted;          /* bytes given to http_output_send() so far */
	int error;                  /* first failure, -errno; nothing is sent any more */
	void (*on_progress)(struct http_output *o); /* from the loop: a write ended, well or not */
};

/** http_output_init() - output into a stream; http_output_done() ends it */
void http_output_init(struct http_output *o, uv_stream_t *stream,
		      void (*on_progress)(struct http_output *o));

/**
 * http_output_send() - send pieces in order, copying what the kernel does not take at once
 * @bufs:	changed by the call
 *
 * Calls nothing back. A failure stands in o->error.
 */
void http_output_send(struct http_output *o, uv_buf_t *bufs, unsigned n);

/** http_output_queued() - bytes that the kernel has not taken yet */
size_t http_output_queued(const struct http_output *o);

/** http_output_taken() - bytes that the kernel has taken so far; it grows as the peer reads */
uint64_t http_output_taken(const struct http_output *o);

/** http_output_drained() - whether blocked output fell below HTTP_OUTPUT_LOW or failed; clears
 * o->blocked, so that it is true once */
bool http_output_drained(struct http_output *o);

/** http_output_detach() - leave what is queued to libuv and forget the stream, which stays open */
void http_output_detach(struct http_output *o);

/** http_output_done() - drop what is queued; before the stream is closed; idempotent */
void http_output_done(struct http_output *o);

/** http_stream_shutdown() - send the end of our side behind all that was written */
void http_stream_shutdown(uv_stream_t *s);

/** http_stream_close() - close a stream and free it */
void http_stream_close(uv_stream_t *s);

/** http_stream_reset() - as http_stream_close(), with a RST to the peer if it is TCP */
void http_stream_reset(uv_stream_t *s);
