/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking HTTP/1.1 client over one connected socket, for workers (agent, VMMs) and the command
 * line. Every wait is a poll with the op's deadline and cancel fd. Keep-alive: requests follow one
 * another on the same socket as long as `reusable` is true.
 */
#pragma once

#include "base/op.h"
#include "http/codec.h"

#include <sys/socket.h>

struct http_client {
	int fd;        /* connected, non-blocking; owned; -1 = closed */
	int also_fd;   /* its POLLIN ends every wait; borrowed; -1 = none */
	struct buf in; /* received, not yet used */
	struct http_head head;
	struct http_body body;
	bool reusable;   /* connected, and no request is under way; http_client_send() needs it */
	bool sending;    /* a streamed body has not been finished */
	char method[16]; /* of the last request */
	char peer[112];  /* for messages: "/run/vivarium/vivd.sock", "10.11.0.2:49983" */
};

/* An unconnected client; http_client_done() is safe on it. */
#define HTTP_CLIENT_INIT                                                                           \
	{                                                                                          \
		.fd = -1, .also_fd = -1, .in = BUF_INIT(HTTP_HEAD_MAX + 65536)                     \
	}

/**
 * http_client_connect() - connect to a socket address
 * @c:		HTTP_CLIENT_INIT or closed
 * @also_fd:	its POLLIN ends this wait and all later ones on the connection (a pidfd);
 *		borrowed until http_client_done(); -1 = none
 *
 * Thread: worker. Return: 0; -ECONNABORTED @also_fd ended the wait; -errno; op->err set.
 */
must_check int http_client_connect(struct http_client *c, const struct sockaddr *addr,
				   socklen_t len, int also_fd, struct op *op);

/** http_client_connect_unix() - connect to a unix socket by path. Return: 0; -errno, op->err set */
must_check int http_client_connect_unix(struct http_client *c, const char *path, struct op *op);

/** http_client_done() - close and free; idempotent */
void http_client_done(struct http_client *c);

#define auto_http_client cleanup(http_client_done) struct http_client

/**
 * http_client_send() - send a request with a whole body
 * @fields:	headers beside Host and Content-Length, ended by a NULL name; NULL = none
 *
 * A server that hangs up while the request is sent is no failure yet: it may have answered before.
 * Thread: worker. Return: 0; -errno with op->err set.
 */
must_check int http_client_send(struct http_client *c, const char *method, const char *target,
				const struct http_field *fields, const void *body, size_t n,
				struct op *op);

/**
 * http_client_start() - send the head of a request whose body is streamed, in chunks
 * @fields:	as of http_client_send()
 *
 * http_client_write() any number of times, http_client_finish() and http_client_head() follow.
 * Return: 0; -errno with op->err set.
 */
must_check int http_client_start(struct http_client *c, const char *method, const char *target,
				 const struct http_field *fields, struct op *op);

/**
 * http_client_write() - send the next piece of a streamed body; waits while the server does
 * not read
 * @p:		@n bytes; none is no piece
 *
 * Return: 0; 1 the server wants no more of it: it has answered, which http_client_head() reads, or
 * hung up; -errno with op->err set.
 */
must_check int http_client_write(struct http_client *c, const void *p, size_t n, struct op *op);

/** http_client_finish() - end a streamed body. Return: as http_client_write() */
must_check int http_client_finish(struct http_client *c, struct op *op);

/** http_client_head() - wait for the head of the response (100 Continue is skipped); then c->head
 * is valid until the next request. Return: 0; -errno with op->err set */
must_check int http_client_head(struct http_client *c, struct op *op);

/**
 * http_client_read() - the next piece of the response's body
 * @out:	bytes are appended
 *
 * Return: > 0 bytes appended; 0 the body is complete; -ECONNRESET the connection ended early;
 * -errno; op->err set on failure.
 */
must_check ssize_t http_client_read(struct http_client *c, struct buf *out, struct op *op);

/**
 * http_client_read_ready() - as http_client_read(), but never waits, for callers with their own
 * poll
 *
 * Return: as http_client_read(); -EAGAIN when nothing is there yet (op->err not set).
 */
must_check ssize_t http_client_read_ready(struct http_client *c, struct buf *out, struct op *op);

/** http_client_reply() - collect the response to what http_client_send() sent. Return: as
 * http_client_call() */
must_check int http_client_reply(struct http_client *c, struct buf *out, struct op *op);

/**
 * http_client_call() - send a request and collect the response
 * @out:	body is appended; its maximum bounds it
 *
 * After an upgrade (101) there is no body to collect: what follows is for http_client_read().
 * Return: the HTTP status; -errno with op->err set.
 */
must_check int http_client_call(struct http_client *c, const char *method, const char *target,
				const struct http_field *fields, const void *body, size_t n,
				struct buf *out, struct op *op);
