/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reverse proxy of one exchange to an upstream address: streams both ways with back-pressure,
 * removes hop-by-hop headers (RFC 9110 section 7.6.1), passes upgrades through as tunnels.
 * Loop thread only. It knows nothing of sandboxes: the caller resolves the address.
 */
#pragma once

#include "http/server.h"

#include <netinet/in.h>

/* Streams of one destination, so that all of them can be cut at once; embedded by the owner. */
struct proxy_group {
	struct proxy_conn *first;
	size_t n;
	uint64_t used_ns; /* when one began or ended last, CLOCK_MONOTONIC; 0 = never */
	void (*on_drained)(void *arg); /* NULL = proxy_drain() is not under way */
	void *on_drained_arg;
};

enum { PROXY_REQUEST_FIELDS_MAX = 2 };

/* Who can lead to an upstream whose address refuses: a server that makes the connection of an
 * upgrade request one to the upstream. Its 503 says that it leads to too many already. */
struct proxy_detour {
	struct sockaddr_in addr;
	const char *target;              /* of the request, a GET */
	const struct http_field *fields; /* Host, Connection and Upgrade among them */
};

/* What it points to is borrowed until on_done; without a detour, only reply_fields is. */
struct proxy_spec {
	struct sockaddr_in addr;
	const struct proxy_detour *detour; /* tried when nobody listens at addr; NULL = none */
	struct proxy_group *group;         /* must outlive its streams */
	unsigned connect_timeout_ms;       /* 0 = 5000 */
	const char *raw_protocol;          /* not HTTP: an upgrade request to this protocol is
					    * answered with 101 as soon as the upstream is there,
					    * and what follows goes to it as it is; NULL = HTTP */
	const char *host;                  /* Host for the upstream; NULL = as the client sent it */
	const char *target;                /* asked of the upstream; NULL = as the client sent it */
	const char *const *drop_headers;   /* names not passed on, ended by NULL; NULL = none */
	const struct http_field *request_fields; /* at most PROXY_REQUEST_FIELDS_MAX, added to the
						  * request, ended by a NULL name; NULL = none */
	const struct http_field *reply_fields;   /* added to the reply; NULL = none */
	void (*on_fail)(struct http_exchange *x, int code, void *arg);
	/* nothing was answered yet and the upstream is out of reach: code is a positive errno
	 * (ECONNREFUSED: nobody listens on the port; EBUSY: the detour is full; or that
	 * of proxy_abort_all()); it must answer the exchange */
	void (*on_done)(void *arg); /* the stream ended, in whatever way; may be NULL */
	void *arg;
};

/** proxy_start() - hand an exchange over to the proxy, which binds it and answers it */
void proxy_start(uv_loop_t *loop, struct http_exchange *x, const struct proxy_spec *spec);

/**
 * proxy_abort_all() - end every stream of a group, and no other's
 * @code:	for on_fail of those that have nothing of a response yet, a positive errno: a client
 *		that finds its connection reset cannot tell an end from a fault of the network;
 *		0 = they are reset, too
 *
 * Upstream all are reset, and so are the clients of tunnels and of responses that have begun: a
 * part must not look like the whole. A whole response is still delivered. The owner lets no new
 * streams in from before this call on.
 */
void proxy_abort_all(struct proxy_group *g, int code);

/**
 * proxy_drain() - let the streams of a group come to their end; the caller starts no new ones
 * @done:	called once, maybe before this returns, when none needs its upstream any more: what
 *		clients have still to read of whole replies does not count
 *
 * Streams whose end is not in sight (upgrades, replies of unknown length) are reset at once, and
 * requests that get such a reply meanwhile.
 */
void proxy_drain(struct proxy_group *g, void (*done)(void *arg), void *arg);

/** proxy_drain_end() - end a drain that is under way, and by proxy_abort_all()'s rules, with
 * ESHUTDOWN, what it waits for; else nothing */
void proxy_drain_end(struct proxy_group *g);
