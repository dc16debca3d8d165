/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The Connect protocol's framing and words: error codes, envelopes, the values of its headers.
 * No I/O: connect.c carries these over HTTP.
 */
#pragma once

#include "base/buf.h"

#include <jansson.h>

/* One line per code, in the order of the numbers: name on the wire, HTTP status of a unary reply.
 */
#define CONNECT_CODES(X)                                                                           \
	X(OK, "ok", 200)                                                                           \
	X(CANCELED, "canceled", 499)                                                               \
	X(UNKNOWN, "unknown", 500)                                                                 \
	X(INVALID_ARGUMENT, "invalid_argument", 400)                                               \
	X(DEADLINE_EXCEEDED, "deadline_exceeded", 504)                                             \
	X(NOT_FOUND, "not_found", 404)                                                             \
	X(ALREADY_EXISTS, "already_exists", 409)                                                   \
	X(PERMISSION_DENIED, "permission_denied", 403)                                             \
	X(RESOURCE_EXHAUSTED, "resource_exhausted", 429)                                           \
	X(FAILED_PRECONDITION, "failed_precondition", 400)                                         \
	X(ABORTED, "aborted", 409)                                                                 \
	X(OUT_OF_RANGE, "out_of_range", 400)                                                       \
	X(UNIMPLEMENTED, "unimplemented", 501)                                                     \
	X(INTERNAL, "internal", 500)                                                               \
	X(UNAVAILABLE, "unavailable", 503)                                                         \
	X(DATA_LOSS, "data_loss", 500)                                                             \
	X(UNAUTHENTICATED, "unauthenticated", 401)

enum connect_code {
#define X(name, text, status) CONNECT_##name,
	CONNECT_CODES(X)
#undef X
		CONNECT_CODE_N
};

/* An error as the client gets it. Zeroed = none. */
struct connect_error {
	enum connect_code code;
	char msg[512];
};

/** connect_error_set() - set an error; the first one wins. Return: -EPROTO, to set and return */
int connect_error_set(struct connect_error *e, enum connect_code code, const char *fmt, ...)
	printf_like(3, 4);

/** connect_code_name() - the name on the wire ("not_found"); static storage */
const char *connect_code_name(enum connect_code code);

/** connect_code_http() - the HTTP status of a unary reply with this code */
int connect_code_http(enum connect_code code);

/** connect_error_json() - {"code", "message"}; a new reference */
json_t *connect_error_json(const struct connect_error *e);

enum {
	CONNECT_MESSAGE_MAX = 4 << 20, /* bytes of a request's message */
	ENVELOPE_HEAD_SIZE = 5,
	ENVELOPE_COMPRESSED = 0x01,
	ENVELOPE_END = 0x02,
};

/* Reads envelopes, one at a time. */
struct envelope_reader {
	uint8_t head[ENVELOPE_HEAD_SIZE];
	size_t n_head;
	uint32_t len; /* of the message, once the head is complete */
	struct buf message;
};

#define ENVELOPE_READER_INIT                                                                       \
	{                                                                                          \
		.message = BUF_INIT(CONNECT_MESSAGE_MAX)                                           \
	}

/**
 * envelope_take() - take received bytes, in any pieces, up to the end of an envelope
 * @out_used:	how many were taken
 *
 * Return: 1 the envelope is whole, its message is in r->message; 0 not yet; -EPROTO with @e set.
 */
must_check int envelope_take(struct envelope_reader *r, const char *p, size_t n, size_t *out_used,
			     struct connect_error *e);

/** envelope_next() - begin another envelope */
void envelope_next(struct envelope_reader *r);

/** envelope_feed() - envelope_take() for requests of one envelope. Return: 0; -EPROTO, @e set */
must_check int envelope_feed(struct envelope_reader *r, const char *p, size_t n,
			     struct connect_error *e);

/** envelope_finish() - the request ended: is the envelope whole? Return: 0; -EPROTO, @e set */
must_check int envelope_finish(const struct envelope_reader *r, struct connect_error *e);

/** envelope_reader_done() - free; idempotent */
void envelope_reader_done(struct envelope_reader *r);

/** envelope_head() - write the head of an envelope with @len bytes of message */
void envelope_head(uint8_t out[ENVELOPE_HEAD_SIZE], uint8_t flags, uint32_t len);

/**
 * connect_message_parse() - read a message, which must be a JSON object
 * @out:	a new reference
 *
 * Return: 0; -EPROTO with @e set.
 */
must_check int connect_message_parse(const char *p, size_t n, json_t **out,
				     struct connect_error *e);

/**
 * connect_timeout_parse() - read Connect-Timeout-Ms
 * @value:	NULL, "" and "0" = no timeout; at most ten digits; a decimal fraction is cut off
 *
 * Return: 0; -EPROTO with @e set.
 */
must_check int connect_timeout_parse(const char *value, uint64_t *out_ms, struct connect_error *e);

/** connect_keepalive_ms() - the value of Keepalive-Ping-Interval in milliseconds, 1 to 3600 s; 90 s
 * when it is absent or makes no sense */
uint64_t connect_keepalive_ms(const char *value);

/** connect_content_type_is() - whether a Content-Type names a media type, parameters aside */
bool connect_content_type_is(const char *value, const char *type);

/**
 * connect_basic_user() - the user name of "Authorization: Basic"
 * @value:	the header; NULL = absent
 * @out:	new memory that the caller frees; NULL when no name is given
 *
 * Other schemes are none of ours and count as absent. Return: 0; -EPROTO with @e set.
 */
must_check int connect_basic_user(const char *value, char **out, struct connect_error *e);
