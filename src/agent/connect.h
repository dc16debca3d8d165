/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Connect protocol over the HTTP server, JSON only: unary calls, server and client streams.
 *
 * A call is made by connect_serve() and handed to its method once the request is complete, that of
 * a client stream once its first message is there. The method, or whoever it gave the call to,
 * answers it: connect_reply() for a unary call and for a client stream, connect_send() any number
 * of times and connect_end() for a server stream, connect_fail() for all of them. The call must not
 * be used after it was answered, nor after on_gone, which tells that the client left or that the
 * call's deadline passed.
 */
#pragma once

#include "agent/envelope.h"

#include "http/server.h"

struct agent;
struct connect_call;

struct connect_method {
	const char *name;
	void (*fn)(struct agent *a, struct connect_call *c, const json_t *request);
	bool stream;           /* messages are in envelopes; the answer is a stream, unless: */
	bool client_stream;    /* the request is one, the answer a single message */
	bool own_deadline;     /* the method itself looks after connect_timeout_ms() */
	const char *keepalive; /* stream: the message sent every Keepalive-Ping-Interval */
};

struct connect_events {
	void (*on_drain)(void *arg); /* connect_blocked() may be false again; NULL = not wanted */
	void (*on_gone)(void *arg);  /* the call is over; forget it */
	/* Of a client stream; on_message and on_end must be set by its method. */
	bool (*on_text)(void *arg, const char *text, size_t n);
	/* a message before it is parsed; true = it needs no parsing, it is dealt with */
	void (*on_message)(void *arg, const json_t *message); /* another one; borrowed */
	void (*on_end)(void *arg);                            /* there are no more */
};

/**
 * connect_serve() - take an exchange over as a call of one of a service's methods
 * @name:	the method that the client asked for
 */
void connect_serve(struct agent *a, struct http_exchange *x, const struct connect_method *methods,
		   size_t n, const char *name);

/** connect_bind() - set who is told; @events are borrowed and must outlive the call */
void connect_bind(struct connect_call *c, const struct connect_events *events, void *arg);

/** connect_header() - a header of the request, or NULL; borrowed for the life of the call */
const char *connect_header(const struct connect_call *c, const char *name);

/** connect_timeout_ms() - what the client gave as Connect-Timeout-Ms; 0 = none */
uint64_t connect_timeout_ms(const struct connect_call *c);

/** connect_pause() - read on (false) or not (true) in a client stream; what is read comes still */
void connect_pause(struct connect_call *c, bool pause);

/** connect_reply() - answer a unary call or client stream; takes over the reference to @message */
void connect_reply(struct connect_call *c, json_t *message);

/** connect_reply_text() - as connect_reply(), with a message that is JSON text already; copied */
void connect_reply_text(struct connect_call *c, const char *text, size_t n);

/** connect_send() - one message of a stream as JSON text; sent at once; copied */
void connect_send(struct connect_call *c, const char *text, size_t n);

/** connect_send_json() - as connect_send(); takes over the reference to @message */
void connect_send_json(struct connect_call *c, json_t *message);

/** connect_blocked() - whether the client is behind, so that no more should be sent now */
bool connect_blocked(const struct connect_call *c);

/** connect_end() - end a stream without an error */
void connect_end(struct connect_call *c);

/** connect_fail() - end a call with an error */
void connect_fail(struct connect_call *c, const struct connect_error *e);

/** connect_failf() - connect_fail() with a formatted message */
void connect_failf(struct connect_call *c, enum connect_code code, const char *fmt, ...)
	printf_like(3, 4);

/** connect_abort() - cut a call: its connection is reset */
void connect_abort(struct connect_call *c);
