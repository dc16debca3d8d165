/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/envelope.h"

#include "agent/text.h"
#include "base/base64.h"
#include "base/parse.h"
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum {
	KEEPALIVE_DEFAULT_S = 90,
	KEEPALIVE_MAX_S = 3600,
	TIMEOUT_DIGITS_MAX = 10,
	ENVELOPE_KEEP_BYTES = 65536,
};

static const struct {
	const char *name;
	int http;
} codes[] = {
#define X(id, text, status) [CONNECT_##id] = { text, status },
	CONNECT_CODES(X)
#undef X
};
static_assert(ARRAY_SIZE(codes) == CONNECT_CODE_N, "each code has a name");

int connect_error_set(struct connect_error *e, enum connect_code code, const char *fmt, ...)
{
	va_list ap;

	if (e->code != CONNECT_OK)
		return -EPROTO;
	e->code = code;
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return -EPROTO;
}

const char *connect_code_name(enum connect_code code)
{
	return codes[code].name;
}

int connect_code_http(enum connect_code code)
{
	return codes[code].http;
}

json_t *connect_error_json(const struct connect_error *e)
{
	/* It may hold a client's bytes, and the cut at its end may have split a character. */
	return json_pack("{s:s, s:o}", "code", connect_code_name(e->code), "message",
			 text_json(e->msg));
}

static int check_envelope_head(struct envelope_reader *r, struct connect_error *e)
{
	r->len = (uint32_t)r->head[1] << 24 | (uint32_t)r->head[2] << 16 |
		 (uint32_t)r->head[3] << 8 | r->head[4];
	if (r->head[0] & ENVELOPE_COMPRESSED)
		return connect_error_set(e, CONNECT_INTERNAL,
					 "envelope is compressed, but no compression was agreed");
	if (r->head[0] != 0)
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "invalid envelope flags 0x%02x", r->head[0]);
	if (r->len > CONNECT_MESSAGE_MAX)
		return connect_error_set(e, CONNECT_RESOURCE_EXHAUSTED,
					 "message of %u bytes is larger than %d", r->len,
					 CONNECT_MESSAGE_MAX);
	return 0;
}

int envelope_take(struct envelope_reader *r, const char *p, size_t n, size_t *out_used,
		  struct connect_error *e)
{
	size_t head = MIN(n, ENVELOPE_HEAD_SIZE - r->n_head);
	size_t body;

	if (head > 0) {
		memcpy(r->head + r->n_head, p, head);
		r->n_head += head;
		if (r->n_head == ENVELOPE_HEAD_SIZE && check_envelope_head(r, e) < 0)
			return -EPROTO;
	}
	body = r->n_head == ENVELOPE_HEAD_SIZE ? MIN(n - head, r->len - r->message.len) : 0;
	if (buf_append(&r->message, p + head, body) < 0)
		return connect_error_set(e, CONNECT_RESOURCE_EXHAUSTED, "out of memory");
	*out_used = head + body;
	return r->n_head == ENVELOPE_HEAD_SIZE && r->message.len == r->len;
}

void envelope_next(struct envelope_reader *r)
{
	buf_clear(&r->message);
	if (r->message.cap > ENVELOPE_KEEP_BYTES)
		buf_done(&r->message); /* a stream may be idle for long */
	r->n_head = 0;
}

int envelope_feed(struct envelope_reader *r, const char *p, size_t n, struct connect_error *e)
{
	size_t used = 0;
	int whole = envelope_take(r, p, n, &used, e);

	if (whole >= 0 && used < n)
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "request has bytes behind its one envelope");
	return MIN(whole, 0);
}

int envelope_finish(const struct envelope_reader *r, struct connect_error *e)
{
	if (r->n_head == ENVELOPE_HEAD_SIZE && r->message.len == r->len)
		return 0;
	if (r->n_head == 0)
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT, "request has no envelope");
	return connect_error_set(e, CONNECT_INVALID_ARGUMENT, "envelope is incomplete");
}

void envelope_reader_done(struct envelope_reader *r)
{
	buf_done(&r->message);
}

void envelope_head(uint8_t out[ENVELOPE_HEAD_SIZE], uint8_t flags, uint32_t len)
{
	out[0] = flags;
	out[1] = (uint8_t)(len >> 24);
	out[2] = (uint8_t)(len >> 16);
	out[3] = (uint8_t)(len >> 8);
	out[4] = (uint8_t)len;
}

int connect_message_parse(const char *p, size_t n, json_t **out, struct connect_error *e)
{
	json_error_t why;
	json_t *message = json_loadb(p, n, JSON_REJECT_DUPLICATES, &why);

	if (message == NULL)
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "message is no JSON: %s (byte %d)", why.text,
					 why.position);
	if (!json_is_object(message)) {
		json_decref(message);
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT, "message is no JSON object");
	}
	*out = message;
	return 0;
}

int connect_timeout_parse(const char *value, uint64_t *out_ms, struct connect_error *e)
{
	char digits[TIMEOUT_DIGITS_MAX + 1] = "";
	size_t n;

	*out_ms = 0;
	if (value == NULL || value[0] == '\0')
		return 0;
	n = strspn(value, "0123456789");
	if (n == 0 || n > TIMEOUT_DIGITS_MAX ||
	    (value[n] != '\0' &&
	     (value[n] != '.' || value[n + 1 + strspn(value + n + 1, "0123456789")] != '\0')))
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "invalid Connect-Timeout-Ms '%.64s'", value);
	memcpy(digits, value, n);
	return parse_u64(digits, 0, UINT64_MAX, out_ms);
}

uint64_t connect_keepalive_ms(const char *value)
{
	uint64_t s;

	if (value == NULL || parse_u64(value, 1, KEEPALIVE_MAX_S, &s) < 0)
		s = KEEPALIVE_DEFAULT_S;
	return s * 1000;
}

bool connect_content_type_is(const char *value, const char *type)
{
	size_t n = strlen(type);

	if (value == NULL || strncasecmp(value, type, n) != 0)
		return false;
	value += n;
	value += strspn(value, " \t");
	return *value == '\0' || *value == ';';
}

int connect_basic_user(const char *value, char **out, struct connect_error *e)
{
	auto_free char *plain = NULL;
	size_t n;
	char *colon;

	*out = NULL;
	if (value == NULL || strncasecmp(value, "Basic ", strlen("Basic ")) != 0)
		return 0;
	value += strlen("Basic ");
	value += strspn(value, " ");
	if (base64_decode(value, strlen(value), &plain, &n) < 0 || strlen(plain) != n)
		return connect_error_set(e, CONNECT_UNAUTHENTICATED,
					 "Authorization: Basic is not base64 of 'user:'");
	colon = strchr(plain, ':');
	if (colon != NULL)
		*colon = '\0';
	if (plain[0] != '\0')
		*out = take_ptr(&plain);
	return 0;
}
