/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the proxy share: streams, and heads as they are passed on (RFC 9110 section
 * 7.6.1). */
#pragma once

#include "http/proxy.h"
#include "http/server-internal.h"
#include "http/stream-internal.h"

struct tunnel;

enum proxy_state {
	PROXY_CONNECTING,
	PROXY_DETOUR,
	PROXY_HEAD,
	PROXY_BODY,
	PROXY_ENDING,
	PROXY_TUNNEL,
	PROXY_OVER,
};

struct proxy_connect {
	uv_connect_t req;
	struct proxy_conn *conn; /* NULL = given up */
};

struct proxy_conn {
	struct proxy_spec spec;
	struct proxy_conn *next, **link; /* in the group */
	enum proxy_state state;
	struct http_exchange *x; /* NULL once it is closed, taken, or the caller's to answer */
	struct http_rbuf *rbuf;  /* a reference */
	uv_stream_t *up;         /* owned; NULL once closed or the tunnel's */
	struct proxy_connect *connect;
	struct http_output out; /* to the upstream */
	struct buf in;          /* the head of the response */
	struct http_body body;  /* of the response */
	struct tunnel *tunnel;  /* owned; set in PROXY_TUNNEL */
	uv_timer_t timer;
	int connect_error; /* known before proxy_start() returned */
	bool reading;
	bool chunked;      /* the request's body */
	bool request_done; /* the request's body was passed on whole */
};

enum { PROXY_FIELDS_MAX = HTTP_HEADERS_MAX + 6 + PROXY_REQUEST_FIELDS_MAX };

/**
 * proxy_request_write() - the head of a request as the upstream gets it
 * @h:		as the client sent it
 * @out:	appended to
 *
 * Return: 0; -errno, of which -EINVAL is the client's doing.
 */
must_check int proxy_request_write(struct buf *out, const struct http_head *h,
				   const struct proxy_spec *spec);

/** proxy_response_fields() - the headers of a response as the client gets them, with those of @more
 * (NULL = none) that it does not have; ended by a NULL name; they borrow from @h and @more */
void proxy_response_fields(struct http_field out[PROXY_FIELDS_MAX], const struct http_head *h,
			   const struct http_field *more);

/** proxy_switch_fields() - as proxy_response_fields(), of a 101 */
void proxy_switch_fields(struct http_field out[PROXY_FIELDS_MAX], const struct http_head *h);

/** proxy_response_length() - the length that a response announces, which for HEAD is not that of
 * its body; -1 = none */
int64_t proxy_response_length(const struct http_head *h);

/** proxy_group_add(), proxy_group_remove() - put a stream into its spec's group, and take it out */
void proxy_group_add(struct proxy_group *g, struct proxy_conn *p);
void proxy_group_remove(struct proxy_conn *p);

/** proxy_group_check() - end a drain, if one is under way, that has nothing to wait for any more */
void proxy_group_check(struct proxy_group *g);

/** proxy_end_in_sight() - whether a stream ends by itself soon, as far as one can know */
bool proxy_end_in_sight(const struct proxy_conn *p);

/** proxy_abort() - end a stream as proxy_abort_all() does; it leaves its group */
void proxy_abort(struct proxy_conn *p, int code);
