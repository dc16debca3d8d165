/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One small request without a body on the loop, whose peer may be slow, silent or hostile: it
 * occupies no worker, and what it reads is bounded. client.h is for workers and for more than that.
 */
#pragma once

#include "http/codec.h"

#include <netinet/in.h>
#include <uv.h>

struct http_fetch;

/* Everything is borrowed for the call. */
struct http_fetch_spec {
	struct sockaddr_in addr;
	const char *method; /* NULL = GET; not HEAD */
	const char *target;
	const struct http_field *fields; /* beside Host and Connection, ended by a NULL name */
	size_t max_bytes;                /* of the body */
	unsigned timeout_ms;             /* for all of it */
	void (*done)(int status, const char *body, size_t n, void *arg);
	/* called once, later, on the loop: the HTTP status with the body, borrowed for the call; or
	 * -errno without one (-ETIMEDOUT, -ECONNREFUSED, -EBADMSG, -EMSGSIZE, …) */
	void *arg;
};

/** http_fetch_start() - begin it; forget it when done was called */
struct http_fetch *http_fetch_start(uv_loop_t *loop, const struct http_fetch_spec *spec);

/** http_fetch_cancel() - give it up; done is not called. NULL is allowed */
void http_fetch_cancel(struct http_fetch *f);
