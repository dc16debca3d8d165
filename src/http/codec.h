/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HTTP/1.1 framing (RFC 9110, RFC 9112), the strict subset that the daemon, the proxy, the agent
 * and the command line share.
 *
 * Theory of operation. Heads are collected whole (32 KiB at most) and parsed once; bodies stream.
 * What is refused, since two readers of one message could disagree about it: obs-fold, a bare CR or
 * LF inside a line, white space before a colon, control characters, both Content-Length and
 * Transfer-Encoding, a second one of these or of Host, a Transfer-Encoding other than "chunked",
 * chunked in HTTP/1.0, blanks around a chunk's size, chunk extensions over 256 bytes, trailers over
 * the head's limit, more than 100 headers, targets that are neither origin-form nor "*" (OPTIONS).
 * HTTP/1.0 and 1.1 only. Trailers are read and dropped. No allocation but the caller's head buffer;
 * no I/O.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

enum { HTTP_HEAD_MAX = 32768, HTTP_HEADERS_MAX = 100 };

struct http_header {
	const char *name;  /* NUL-terminated, as sent; compare without case */
	const char *value; /* NUL-terminated, blanks around it removed; bytes >= 0x80 allowed */
};

enum http_body_kind {
	HTTP_BODY_NONE,    /* no body follows the head */
	HTTP_BODY_LENGTH,  /* content_length bytes */
	HTTP_BODY_CHUNKED, /* chunks */
	HTTP_BODY_EOF,     /* response only: until the connection closes */
	HTTP_BODY_TUNNEL,  /* 101, or 2xx to CONNECT: the bytes after the head are not HTTP */
};

/* A parsed head. All strings lie in `text`, which the head owns; http_head_done() frees it. */
struct http_head {
	char *text;
	const char *method; /* requests: a token such as "GET" */
	const char *target; /* requests: as sent, "/path?query" */
	const char *path;   /* requests: the target up to '?', still percent-encoded */
	const char *query;  /* requests: after '?', still percent-encoded; "" if none */
	int status;         /* responses: 100 to 599 */
	const char *reason; /* responses: may be "" */
	int minor;          /* 0 or 1 */
	struct http_header headers[HTTP_HEADERS_MAX];
	size_t n_headers;
	enum http_body_kind body;
	uint64_t content_length; /* with HTTP_BODY_LENGTH */
	bool keep_alive;         /* from version and Connection */
	bool upgrade;            /* Connection: upgrade and an Upgrade header are both there */
};

/**
 * http_head_parse_request() - take a request's head off the front of a buffer
 * @in:		received bytes; the head is consumed when it is complete; its max should be
 *		HTTP_HEAD_MAX or more
 * @out:	filled on success
 *
 * Leading empty lines before a request are skipped (RFC 9112 section 2.2).
 * Return: 1 a head was parsed; 0 more bytes are needed; -EMSGSIZE the head is over HTTP_HEAD_MAX or
 * HTTP_HEADERS_MAX (answer 431); -EPROTONOSUPPORT the version is no 1.x (505); -EOPNOTSUPP a
 * transfer coding that we do not know (501); -EBADMSG malformed (400); -ENOMEM. @e says what is
 * wrong.
 */
must_check int http_head_parse_request(struct buf *in, struct http_head *out, struct err *e);

/**
 * http_head_parse_response() - take a response's head off the front of a buffer
 * @request_method:	the method that it answers: HEAD has no body, CONNECT may tunnel
 *
 * Return and errors: as http_head_parse_request().
 */
must_check int http_head_parse_response(struct buf *in, const char *request_method,
					struct http_head *out, struct err *e);

/** http_head_done() - free a head; idempotent on a zeroed one */
void http_head_done(struct http_head *h);

/** http_head_get() - the value of a header, name compared without case; NULL if absent; first wins
 */
const char *http_head_get(const struct http_head *h, const char *name);

/** http_head_has_token() - whether a comma-separated header lists a token, without case */
bool http_head_has_token(const struct http_head *h, const char *name, const char *token);

/* Reads one body; init from a head. */
struct http_body {
	enum http_body_kind kind;
	int state;           /* of the chunk reader */
	uint64_t left;       /* bytes left of the body, or of the current chunk */
	unsigned line_bytes; /* bytes of the current chunk line or trailer section */
	bool done;
};

/** http_body_init() - start reading the body that a head announced */
void http_body_init(struct http_body *b, const struct http_head *h);

/**
 * http_body_next() - find the next piece of payload in received bytes
 * @in, @n:	bytes received and not yet used
 * @out_used:	bytes of @in that were used up (framing and payload)
 * @out_data:	payload within @in, NULL if none
 * @out_len:	its length
 *
 * Call again with the rest until *@out_used is 0 or @b->done. With HTTP_BODY_EOF and _TUNNEL all
 * bytes are payload and done stays false. Return: 0; -EBADMSG broken chunk framing; -EMSGSIZE an
 * overlong chunk line or trailer section.
 */
must_check int http_body_next(struct http_body *b, const char *in, size_t n, size_t *out_used,
			      const char **out_data, size_t *out_len);

/** http_body_skip() - count @n <= b->left bytes of a HTTP_BODY_LENGTH as received elsewhere */
void http_body_skip(struct http_body *b, uint64_t n);

/* One header of a message to be written; a NULL name ends an array of them. */
struct http_field {
	const char *name;
	const char *value;
};

/**
 * http_write_request() - append a request head
 * @fields:	ended by a NULL name; the caller gives Host and the framing headers
 *
 * Return: 0; -EINVAL when method, target, a name or a value has bytes that would break framing;
 * -EMSGSIZE; -ENOMEM.
 */
must_check int http_write_request(struct buf *out, const char *method, const char *target,
				  const struct http_field *fields);

/** http_write_response() - append a response head; the reason phrase follows from the status */
must_check int http_write_response(struct buf *out, int status, const struct http_field *fields);

/** http_write_chunk() - append one chunk (nothing for @n = 0). Return: 0; -EMSGSIZE; -ENOMEM */
must_check int http_write_chunk(struct buf *out, const void *p, size_t n);

/** http_write_last_chunk() - append the chunk that ends a body */
must_check int http_write_last_chunk(struct buf *out);

/** http_status_text() - the reason phrase of a status ("Not Found"); "Unknown" */
const char *http_status_text(int status);

/**
 * http_query_get() - one parameter of a query string, percent-decoded ('+' is a blank)
 * @query:	as in struct http_head
 * @out:	set to new memory that the caller frees; unchanged when absent
 *
 * The first of several counts. Return: 1 found; 0 absent; -EBADMSG a bad escape or a NUL byte;
 * -ENOMEM.
 */
must_check int http_query_get(const char *query, const char *name, char **out);

/** http_percent_decode() - decode %XX into new memory that the caller frees; '+' stays when @plus
 * is false. Return: 0; -EBADMSG a bad escape or a NUL byte; -ENOMEM */
must_check int http_percent_decode(const char *s, size_t n, bool plus, char **out);
