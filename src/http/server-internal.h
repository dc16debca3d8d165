/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server's parts: server.c listens and keeps the connections, connection.c moves one connection
 * from head to head, exchange.c is what handlers call.
 *
 * Theory of operation. Handlers are called from one place, conn_run(), which repeats the step that
 * a connection's state asks for until there is nothing to do; so pipelined requests cost no stack.
 * What a handler calls only writes output and sets flags. Outside of conn_run() it asks for a run
 * from the loop by conn_schedule(). The one exception is the end of an exchange by
 * http_exchange_abort(), which tells on_close at once.
 *
 * Any call into a handler may end the exchange, the connection, and the server. A connection's
 * memory lives until the loop closed its timer, the server's until all connections are gone; an
 * exchange may be freed at once and must not be touched behind such a call.
 */
#pragma once

#include "http/server.h"
#include "http/stream-internal.h"

enum {
	HTTP_DROP_MAX = 64 << 10, /* of a body that nobody wants */
	HTTP_LINGER_MS = 1000,
};

union http_socket {
	uv_handle_t handle;
	uv_stream_t stream;
	uv_pipe_t pipe;
	uv_tcp_t tcp;
};

struct http_listener {
	union http_socket u;
	struct http_server *server;
	struct http_listener *next;
};

struct http_server {
	uv_loop_t *loop;
	struct http_server_config config;
	struct http_listener *listeners; /* owned */
	struct http_conn *conns;         /* not closed yet; owned */
	unsigned n_conns;
	struct http_conn *ready; /* to be run by `idle` */
	uv_idle_t idle;          /* active only while `ready` is not empty */
	struct http_rbuf *rbuf;
	unsigned refs; /* the owner, the idle handle, each listener, each connection */
};

enum conn_state {
	CONN_HEAD,   /* between exchanges */
	CONN_OPEN,   /* an exchange is open */
	CONN_DROP,   /* the exchange is over, the rest of its body is read and dropped */
	CONN_LINGER, /* our side is shut, waiting for the peer to close */
	CONN_CLOSED, /* given up or taken; the memory waits for the timer to close */
};

enum conn_timer {
	CONN_TIMER_NONE,
	CONN_TIMER_IDLE,
	CONN_TIMER_HEAD,
	CONN_TIMER_WRITE,
	CONN_TIMER_LINGER
};

struct http_conn {
	struct http_server *server;
	struct http_conn *next, **link;             /* in server->conns */
	struct http_conn *next_ready, **link_ready; /* in server->ready; link NULL = not there */
	enum conn_state state;
	enum conn_timer timing;
	uv_timer_t timer;
	uv_stream_t *stream; /* owned; NULL when closed or taken */
	struct http_output out;
	uint64_t taken;    /* of the output, when a write timer last looked */
	struct buf in;     /* received, not used yet */
	const char *fresh; /* what was just read, not used yet; `in` is empty then */
	size_t n_fresh;
	struct http_body body;
	size_t drop_left;
	bool reading;
	bool running;
	bool eof;                /* the peer ended its side */
	bool close_after;        /* no further request */
	bool broken;             /* to be reset by the next run */
	struct http_exchange *x; /* owned; set in CONN_OPEN */
};

enum body_reader { READER_NONE, READER_STREAM, READER_COLLECT };

struct http_exchange {
	struct http_conn *conn;
	struct http_head head;
	const struct http_exchange_events *events; /* borrowed; never NULL */
	void *arg;
	enum body_reader reader;
	bool paused;
	bool expect;     /* the peer waits for a 100 Continue */
	bool body_ended; /* on_end or done was called */
	bool started;    /* the reply's head was written */
	bool ended;      /* the reply was written whole */
	bool closed;     /* no longer of the connection; only on_close is left */
	bool chunked;
	bool no_body;  /* of the reply */
	bool has_left; /* the reply's length was announced */
	uint64_t left; /* of the reply's body */
	struct buf collected;
	void (*done)(struct http_exchange *x, const char *body, size_t n, void *arg);
	void *done_arg;
};

/** server_unref() - drop a reference to the server; the last one frees it */
void server_unref(struct http_server *s);

/** conn_new() - serve an accepted stream, which is owned from now on */
void conn_new(struct http_server *s, uv_stream_t *stream);

/** conn_run() - do all that can be done now; not from within a handler */
void conn_run(struct http_conn *c);

/** conn_schedule() - have the connection run soon: after the handler returned */
void conn_schedule(struct http_conn *c);

/** conn_waits_for_write() - whether the peer has to take some of a reply in time */
bool conn_waits_for_write(const struct http_conn *c);

/** conn_close() - close the stream, if it is still ours, and the connection; idempotent */
void conn_close(struct http_conn *c, bool reset);

/** conn_fail() - close the connection with a reset; an open exchange is told that it is incomplete
 */
void conn_fail(struct http_conn *c);

/** conn_take_input() - append what was received and not used to @early */
void conn_take_input(struct http_conn *c, struct buf *early);

/** exchange_new() - an exchange without head; of @c once c->x is set */
struct http_exchange *exchange_new(struct http_conn *c);

/** exchange_free() - free an exchange that nobody will be told about any more */
void exchange_free(struct http_exchange *x);

/** exchange_close() - tell on_close and free; the connection has forgotten the exchange before */
void exchange_close(struct http_exchange *x, bool complete);

/** exchange_body_data() - give a piece of the body to its reader */
void exchange_body_data(struct http_exchange *x, const char *p, size_t n);

/** exchange_body_end() - tell the reader that the body is complete */
void exchange_body_end(struct http_exchange *x);

/** exchange_refuse() - answer in place of the handler (malformed, too large) and close afterwards
 */
void exchange_refuse(struct http_exchange *x, int status, const char *why);

/**
 * http_reply_may_splice() - whether what follows of a reply may go out by http_reply_splice()
 *
 * If so, that must follow: see http_output_may_splice().
 */
bool http_reply_may_splice(struct http_exchange *x);

/** http_reply_splice() - as http_reply_write(), of what is read from a stream; see
 * http_output_splice() */
ssize_t http_reply_splice(struct http_exchange *x, uv_stream_t *from, uint64_t max);

/** http_exchange_rbuf() - the read buffer of the server that serves the exchange; borrowed */
struct http_rbuf *http_exchange_rbuf(const struct http_exchange *x);
