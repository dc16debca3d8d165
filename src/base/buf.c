/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"

#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_FIRST_BYTES = 256 };

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf)BUF_INIT(max);
}

void buf_done(struct buf *b)
{
	free(b->data);
	buf_init(b, b->max);
}

/* Moves the bytes to the front, so that the room behind them is one piece. */
static void buf_compact(struct buf *b)
{
	if (b->off == 0)
		return;
	memmove(b->data, b->data + b->off, b->len);
	b->off = 0;
}

int buf_reserve(struct buf *b, size_t n, char **out)
{
	size_t need;
	size_t cap = b->cap != 0 ? b->cap : BUF_FIRST_BYTES;
	char *data;

	if (n > buf_room(b))
		return -EMSGSIZE;
	need = b->len + n + 1; /* one more for buf_str()'s NUL */
	if (need > b->cap - b->off)
		buf_compact(b);
	if (need > b->cap) {
		while (cap < need)
			cap *= 2;
		cap = MIN(cap, b->max + 1);
		data = realloc(b->data, cap);
		if (data == NULL)
			return -ENOMEM;
		b->data = data;
		b->cap = cap;
	}
	*out = b->data + b->off + b->len;
	return 0;
}

void buf_commit(struct buf *b, size_t n)
{
	b->len += n;
}

int buf_append(struct buf *b, const void *p, size_t n)
{
	char *room;
	int r;

	if (n == 0)
		return 0;
	r = buf_reserve(b, n, &room);
	if (r < 0)
		return r;
	memcpy(room, p, n);
	buf_commit(b, n);
	return 0;
}

int buf_puts(struct buf *b, const char *s)
{
	return buf_append(b, s, strlen(s));
}

int buf_vprintf(struct buf *b, const char *fmt, va_list ap)
{
	va_list again;
	char *room;
	int n;
	int r;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0)
		return -EINVAL;
	r = buf_reserve(b, (size_t)n, &room);
	if (r < 0)
		return r;
	vsnprintf(room, (size_t)n + 1, fmt, ap);
	buf_commit(b, (size_t)n);
	return 0;
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap;
	int r;

	va_start(ap, fmt);
	r = buf_vprintf(b, fmt, ap);
	va_end(ap);
	return r;
}

void buf_consume(struct buf *b, size_t n)
{
	b->off += n;
	b->len -= n;
	if (b->len == 0)
		b->off = 0;
}

void buf_clear(struct buf *b)
{
	b->off = 0;
	b->len = 0;
}

const char *buf_str(struct buf *b)
{
	if (b->data == NULL)
		return "";
	b->data[b->off + b->len] = '\0';
	return b->data + b->off;
}

char *buf_steal(struct buf *b)
{
	char *s;

	if (b->data == NULL)
		return str_dup("");
	buf_compact(b);
	b->data[b->len] = '\0';
	s = take_ptr(&b->data);
	buf_init(b, b->max);
	return s;
}
