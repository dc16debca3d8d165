/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 server on libuv: listeners (unix, TCP), keep-alive, one request at a time per
 * connection, bodies streamed both ways with back-pressure. The daemon and the agent serve with it;
 * it knows nothing of sandboxes.
 *
 * Theory of operation. A connection reads a head, makes an exchange and calls the handler. The
 * handler starts one of the readers for the body (collect, stream, or neither: the rest is then
 * read and dropped, up to a bound, or the connection closed), and answers at once or later. While
 * an exchange is open the connection reads no further request; it goes on reading so that the end
 * of the peer is noticed (on_close). Everything runs on the loop thread. An exchange lives until
 * its reply ended or it was aborted, and on_close was called exactly once; the handler must not use
 * it afterwards.
 *
 * Back-pressure. http_reply_write() copies into the connection's output. Above 256 KiB queued
 * http_reply_blocked() is true; on_drain is called when it falls below 64 KiB.
 *
 * What locks others out is bounded per server, so those who may not lock each other out get servers
 * of their own: the number of connections, and how long a peer may be silent (between requests, in
 * a head) or deaf (write_timeout_ms).
 *
 * libuv writes without MSG_NOSIGNAL: the process must ignore SIGPIPE.
 */
#pragma once

#include "http/codec.h"

#include <uv.h>

/* The most that http_exchange_take() may find received already. */
enum { HTTP_EARLY_MAX = 128 << 10 };

struct http_server;
struct http_exchange;
struct http_output;

typedef void (*http_handler_fn)(struct http_exchange *x, void *arg);

struct http_server_config {
	http_handler_fn handler;
	void *arg;
	unsigned idle_timeout_ms;  /* a connection without a request; 0 = 75 000 */
	unsigned head_timeout_ms;  /* from the first byte of a head to its end; 0 = 10 000 */
	unsigned write_timeout_ms; /* a peer that takes nothing of a reply is reset; 0 = never */
	unsigned max_connections;  /* more are accepted and closed; 0 = 4096 */
	bool remote; /* who is there is not known by its uid, also where the stream is a unix
		      * socket: http_exchange_peer_uid() is -1 */
	void (*on_malformed)(struct http_exchange *x, int status, const char *why, void *arg);
	/* answers a request that cannot be parsed or has no Host; NULL: JSON, {"code":status,
	 * "message":why} */
};

/** http_server_new() - a server without listeners; loop thread; http_server_free() ends it */
struct http_server *http_server_new(uv_loop_t *loop, const struct http_server_config *config);

/**
 * http_server_listen_fd() - accept on a bound and listening socket (unix or TCP)
 * @fd:		non-blocking is set here; owned by the server from now on, also on failure
 *
 * Return: 0; -errno.
 */
must_check int http_server_listen_fd(struct http_server *s, int fd);

/**
 * http_server_serve_fd() - serve a connected stream socket that somebody else accepted
 * @fd:		owned by the server from now on, also on failure
 *
 * Return: 0; -EUSERS there are max_connections already; -errno.
 */
must_check int http_server_serve_fd(struct http_server *s, int fd);

/** http_server_close_idle() - close the connections that have no exchange (before a pause) */
void http_server_close_idle(struct http_server *s);

/**
 * http_server_free() - close listeners and connections, aborting open exchanges (their on_close is
 * called), then free; the loop must still run once for libuv's close callbacks
 */
void http_server_free(struct http_server *s);

/** http_exchange_head() - the request's head; borrowed for the life of the exchange */
const struct http_head *http_exchange_head(const struct http_exchange *x);

/** http_exchange_peer_uid() - uid of the peer of a unix socket (SO_PEERCRED); -1 for TCP,
 * and with `remote` */
int64_t http_exchange_peer_uid(const struct http_exchange *x);

/* What the owner of an exchange is told; any may be NULL. Each gets the `arg` given with it. */
struct http_exchange_events {
	void (*on_data)(struct http_exchange *x, const char *p, size_t n, void *arg);
	/* a piece of the request's body */
	void (*on_end)(struct http_exchange *x, void *arg);
	/* the request's body is complete */
	struct http_output *(*sink)(struct http_exchange *x, void *arg);
	/* where pieces of a long body may go without on_data, which makes that output blocked and
	 * the body paused; NULL: nowhere, or not now */
	void (*on_drain)(struct http_exchange *x, void *arg);
	/* output is wanted again */
	void (*on_close)(struct http_exchange *x, bool complete, void *arg);
	/* last call: the reply was sent whole (complete), or the peer went away or we aborted */
};

/** http_exchange_bind() - set who is told; events are borrowed and must outlive the exchange */
void http_exchange_bind(struct http_exchange *x, const struct http_exchange_events *events,
			void *arg);

/** http_body_stream() - start delivering the body by on_data and on_end; answers an
 * "Expect: 100-continue" */
void http_body_stream(struct http_exchange *x);

/** http_body_pause() - stop (true) or go on (false) reading the body: back-pressure to the peer; up
 * to 64 KiB are still read ahead, so that the end of a peer that waits is noticed */
void http_body_pause(struct http_exchange *x, bool pause);

/**
 * http_body_collect() - gather the whole body, then call @done
 * @max:	bytes; a larger body is answered with 413 and @done is not called
 * @done:	body with a NUL behind it, borrowed for the call; not called when the peer goes away
 *
 * Use it instead of http_body_stream(); on_data and on_end are not called.
 */
void http_body_collect(struct http_exchange *x, size_t max,
		       void (*done)(struct http_exchange *x, const char *body, size_t n, void *arg),
		       void *arg);

/**
 * http_reply() - a whole reply
 * @fields:	extra headers ended by a NULL name, or NULL; framing headers are added here
 * @body, @n:	copied
 */
void http_reply(struct http_exchange *x, int status, const struct http_field *fields,
		const char *content_type, const void *body, size_t n);

/**
 * http_reply_start() - the head of a streamed reply
 * @fields:		as http_reply(), with Content-Type among them
 * @content_length:	bytes that follow, or -1 for chunks (until close to an HTTP/1.0 peer)
 */
void http_reply_start(struct http_exchange *x, int status, const struct http_field *fields,
		      int64_t content_length);

/** http_reply_write() - a piece of a streamed reply; sent at once; copied */
void http_reply_write(struct http_exchange *x, const void *p, size_t n);

/** http_reply_blocked() - whether the peer is behind, so that no more should be written now */
bool http_reply_blocked(const struct http_exchange *x);

/** http_reply_end() - the end of a streamed reply; on_close follows when it was sent */
void http_reply_end(struct http_exchange *x);

/** http_reply_started() - whether a head was sent already */
bool http_reply_started(const struct http_exchange *x);

/** http_exchange_abort() - end the exchange and reset its connection (RST where the transport has
 * one); on_close is called before this returns */
void http_exchange_abort(struct http_exchange *x);

/**
 * http_exchange_take() - take the connection out of the server, for a tunnel (after an upgrade)
 * @out_stream:	the open libuv stream; owned by the caller, who closes it and frees it with free()
 * @early:	bytes that were received behind the head are appended here; its max must be
 *		HTTP_EARLY_MAX or more
 *
 * The exchange is gone afterwards, without on_close.
 */
void http_exchange_take(struct http_exchange *x, uv_stream_t **out_stream, struct buf *early);
