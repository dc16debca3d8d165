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
#include "http/splice.h"

#include <uv.h>

enum {
	HTTP_READ_BYTES = 64 << 10,
	HTTP_OUTPUT_HIGH = 256 << 10,
	HTTP_OUTPUT_LOW = 64 << 10,
	HTTP_OUTPUT_MAX = 64 << 20,  /* a writer who ignores the marks fails here */
	HTTP_SPLICE_MIN = 256 << 10, /* what is shorter is copied */
};

/* Where all streams of a server read into: what was read is used up before the next read. And the
 * pipes for what need not be read. */
struct http_rbuf {
	unsigned refs;
	struct splice_pool pipes;
	char bytes[HTTP_READ_BYTES];
};

/** http_rbuf_new() - a read buffer with one reference */
struct http_rbuf *http_rbuf_new(void);

/** http_rbuf_ref() - one more reference to a read buffer. Return: @b */
struct http_rbuf *http_rbuf_ref(struct http_rbuf *b);

/** http_rbuf_unref() - drop a reference; the last one frees */
void http_rbuf_unref(struct http_rbuf *b);

struct http_write;

/* The output of one stream: what the kernel does not take at once waits here. `writing` goes out
 * first, then the pipe, then `pending`. */
struct http_output {
	uv_stream_t *stream;        /* borrowed */
	struct http_write *writing; /* in libuv's hands; NULL = none */
	struct splice_pipe *pipe;   /* taken; NULL = none */
	struct buf pending;         /* goes out when the others are done */
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

/**
 * http_output_may_splice() - whether the next bytes may go out by http_output_splice()
 *
 * It takes a pipe, so that http_output_splice() must follow. Return: false: they must be copied,
 * since something waits already, or there is no pipe.
 */
bool http_output_may_splice(struct http_output *o, struct http_rbuf *rbuf);

/**
 * http_output_splice() - send what there is to be read from a stream, without copying it
 * @from:	as http_splice_ready() tells
 * @max:	bytes, > 0
 *
 * What the kernel does not take waits in the pipe, and makes the output blocked. Return: as in
 * uv_read_cb: bytes read; 0 nothing is there yet; UV_EOF; -errno of reading. A failure to send
 * stands in o->error.
 */
ssize_t http_output_splice(struct http_output *o, uv_stream_t *from, uint64_t max);

/** http_splice_alloc() - the buffer with which a uv_alloc_cb says that the bytes are not to be read
 * by libuv: it calls uv_read_cb with UV_ENOBUFS, again and again as long as there are any */
static inline uv_buf_t http_splice_alloc(void)
{
	return (uv_buf_t){ 0 };
}

/** http_splice_ready() - whether uv_read_cb was called for http_splice_alloc(): nothing was read */
static inline bool http_splice_ready(ssize_t n, const uv_buf_t *b)
{
	return n == UV_ENOBUFS && b->len == 0;
}

/** http_output_queued() - bytes that the kernel has not taken yet */
size_t http_output_queued(const struct http_output *o);

/** http_output_taken() - bytes that the kernel has taken so far; it grows as the peer reads */
uint64_t http_output_taken(const struct http_output *o);

/** http_output_drained() - whether blocked output fell below HTTP_OUTPUT_LOW and its pipe is empty,
 * or it failed; clears o->blocked, so that it is true once */
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
