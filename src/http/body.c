/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bodies.
 *
 * Theory of operation. Chunk framing is read byte by byte through the states below, payload in
 * whole pieces. A chunk is "size[;extension] CRLF payload CRLF"; the chunk of size 0 has no payload
 * but trailer lines, and an empty line ends the body:
 *
 *	FIRST -> SIZE -> [EXTENSION ->] SIZE_LF -> PAYLOAD -> PAYLOAD_CR -> PAYLOAD_LF -> FIRST
 *	                                   | size 0
 *	                                   +-> TRAILER -> NAME -> VALUE -> VALUE_LF -> TRAILER
 *	                                          +-> LAST_LF, done
 *
 * Every line must end with CRLF, and blanks around a size are refused: other readers are known to
 * see chunk borders elsewhere there.
 */
#include "http/codec-internal.h"
#include "http/codec.h"

#include <errno.h>

enum { SIZE_DIGITS_MAX = 16, EXTENSION_MAX = 256 };

enum chunk_state {
	CHUNK_FIRST,
	CHUNK_SIZE,
	CHUNK_EXTENSION,
	CHUNK_SIZE_LF,
	CHUNK_PAYLOAD,
	CHUNK_PAYLOAD_CR,
	CHUNK_PAYLOAD_LF,
	CHUNK_TRAILER,
	CHUNK_NAME,
	CHUNK_VALUE,
	CHUNK_VALUE_LF,
	CHUNK_LAST_LF,
};

/* One piece of a body, found in received bytes. */
struct piece {
	size_t used;
	const char *data;
	size_t len;
};

void http_body_init(struct http_body *b, const struct http_head *h)
{
	*b = (struct http_body){
		.kind = h->body,
		.left = h->body == HTTP_BODY_LENGTH ? h->content_length : 0,
	};
	b->done = b->kind == HTTP_BODY_NONE || (b->kind == HTTP_BODY_LENGTH && b->left == 0);
}

/* Goes on to @next if @c is the byte that must come. */
static int expect(struct http_body *b, char c, char must, enum chunk_state next)
{
	if (c != must)
		return -EBADMSG;
	b->state = next;
	return 0;
}

static int read_size(struct http_body *b, char c)
{
	int digit = http_hex_value(c);

	if (digit >= 0) {
		if (b->left > INT64_MAX >> 4 || ++b->line_bytes > SIZE_DIGITS_MAX)
			return -EBADMSG;
		b->left = b->left << 4 | (unsigned)digit;
		b->state = CHUNK_SIZE;
		return 0;
	}
	if (b->state == CHUNK_FIRST)
		return -EBADMSG;
	if (c == ';') {
		b->line_bytes = 0;
		return expect(b, c, ';', CHUNK_EXTENSION);
	}
	return expect(b, c, '\r', CHUNK_SIZE_LF);
}

static int read_extension(struct http_body *b, char c)
{
	if (!http_is_text(c))
		return expect(b, c, '\r', CHUNK_SIZE_LF);
	return ++b->line_bytes > EXTENSION_MAX ? -EMSGSIZE : 0;
}

static int read_size_lf(struct http_body *b, char c)
{
	b->line_bytes = 0;
	return expect(b, c, '\n', b->left == 0 ? CHUNK_TRAILER : CHUNK_PAYLOAD);
}

static int read_trailer(struct http_body *b, char c)
{
	if (++b->line_bytes > HTTP_HEAD_MAX)
		return -EMSGSIZE;
	if (b->state == CHUNK_TRAILER && c == '\r')
		return expect(b, c, '\r', CHUNK_LAST_LF);
	if (b->state == CHUNK_NAME && c == ':')
		return expect(b, c, ':', CHUNK_VALUE);
	if (b->state == CHUNK_VALUE)
		return http_is_text(c) ? 0 : expect(b, c, '\r', CHUNK_VALUE_LF);
	b->state = CHUNK_NAME;
	return http_is_token(c) ? 0 : -EBADMSG;
}

static int read_framing(struct http_body *b, char c)
{
	switch ((enum chunk_state)b->state) {
	case CHUNK_FIRST:
	case CHUNK_SIZE:
		return read_size(b, c);
	case CHUNK_EXTENSION:
		return read_extension(b, c);
	case CHUNK_SIZE_LF:
		return read_size_lf(b, c);
	case CHUNK_PAYLOAD_CR:
		return expect(b, c, '\r', CHUNK_PAYLOAD_LF);
	case CHUNK_PAYLOAD_LF:
		b->line_bytes = 0;
		return expect(b, c, '\n', CHUNK_FIRST);
	case CHUNK_TRAILER:
	case CHUNK_NAME:
	case CHUNK_VALUE:
		return read_trailer(b, c);
	case CHUNK_VALUE_LF:
		return expect(b, c, '\n', CHUNK_TRAILER);
	case CHUNK_LAST_LF:
		b->done = c == '\n';
		return b->done ? 0 : -EBADMSG;
	case CHUNK_PAYLOAD:
		break;
	}
	return -EBADMSG;
}

/* Takes payload, of which b->left bytes are to come, from the bytes behind @p->used. */
static void take_payload(struct http_body *b, const char *in, size_t n, struct piece *p)
{
	size_t rest = n - p->used;

	if (rest == 0)
		return;
	p->data = in + p->used;
	p->len = b->left < rest ? (size_t)b->left : rest;
	p->used += p->len;
	b->left -= p->len;
}

static int next_chunked(struct http_body *b, const char *in, size_t n, struct piece *p)
{
	while (p->used < n && b->state != CHUNK_PAYLOAD && !b->done) {
		int r = read_framing(b, in[p->used]);

		if (r < 0)
			return r;
		p->used++;
	}
	if (b->state != CHUNK_PAYLOAD)
		return 0;
	take_payload(b, in, n, p);
	if (b->left == 0)
		b->state = CHUNK_PAYLOAD_CR;
	return 0;
}

int http_body_next(struct http_body *b, const char *in, size_t n, size_t *out_used,
		   const char **out_data, size_t *out_len)
{
	struct piece p = { 0 };
	int r = 0;

	switch (b->done ? HTTP_BODY_NONE : b->kind) {
	case HTTP_BODY_NONE:
		break;
	case HTTP_BODY_LENGTH:
		take_payload(b, in, n, &p);
		b->done = b->left == 0;
		break;
	case HTTP_BODY_CHUNKED:
		r = next_chunked(b, in, n, &p);
		break;
	case HTTP_BODY_EOF:
	case HTTP_BODY_TUNNEL:
		p = (struct piece){ .used = n, .data = n > 0 ? in : NULL, .len = n };
		break;
	}
	if (r < 0)
		return r;
	*out_used = p.used;
	*out_data = p.data;
	*out_len = p.len;
	return 0;
}

void http_body_skip(struct http_body *b, uint64_t n)
{
	assert(b->kind == HTTP_BODY_LENGTH && n <= b->left);
	b->left -= n;
	b->done = b->left == 0;
}
