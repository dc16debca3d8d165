/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes with a hard maximum. Everything that a client, a guest or a file sizes grows in one of
 * these, so that no peer decides how much memory we use.
 *
 * Bytes are appended at the end and consumed at the front; consuming moves an offset, and the
 * space is taken back when the buffer empties or has to grow.
 */
#pragma once

#include "base/macros.h"

#include <stdarg.h>

/* Invariant: off + len <= cap <= max + 1; data[off + len] may be used for a terminating NUL. */
struct buf {
	char *data;
	size_t off;
	size_t len;
	size_t cap;
	size_t max;
};

/* A buffer of at most @max_bytes, with no memory yet. */
#define BUF_INIT(max_bytes)                                                                        \
	{                                                                                          \
		.max = (max_bytes)                                                                 \
	}

/** buf_init() - make a buffer of at most @max bytes; buf_done() frees it */
void buf_init(struct buf *b, size_t max);

/** buf_done() - free the memory; idempotent; the maximum stays */
void buf_done(struct buf *b);

/** buf_append() - add bytes. Return: 0; -EMSGSIZE past the maximum; -ENOMEM. Unchanged on failure
 */
must_check int buf_append(struct buf *b, const void *p, size_t n);

/** buf_puts() - add a string without its NUL; as buf_append() */
must_check int buf_puts(struct buf *b, const char *s);

/** buf_printf() - add formatted text; as buf_append() */
must_check int buf_printf(struct buf *b, const char *fmt, ...) printf_like(2, 3);

/** buf_vprintf() - add formatted text; as buf_append() */
must_check int buf_vprintf(struct buf *b, const char *fmt, va_list ap) printf_like(2, 0);

/**
 * buf_reserve() - make room for @n more bytes
 * @out:	where they go; follow with buf_commit()
 *
 * Return: 0; -EMSGSIZE; -ENOMEM.
 */
must_check int buf_reserve(struct buf *b, size_t n, char **out);

/** buf_commit() - count @n bytes that were written into reserved room */
void buf_commit(struct buf *b, size_t n);

/** buf_consume() - drop @n <= len bytes from the front */
void buf_consume(struct buf *b, size_t n);

/** buf_clear() - drop all bytes, keep the memory */
void buf_clear(struct buf *b);

/** buf_str() - the bytes with a NUL behind them, borrowed until the next change; "" when empty */
const char *buf_str(struct buf *b);

/** buf_steal() - the bytes with a NUL behind them as new memory that the caller frees; empties @b
 */
char *buf_steal(struct buf *b);

/** buf_head() - the first byte; valid for len bytes until the next change */
static inline char *buf_head(const struct buf *b)
{
	return b->data + b->off;
}

/** buf_room() - how many bytes may still be added */
static inline size_t buf_room(const struct buf *b)
{
	return b->max - b->len;
}

#define auto_buf cleanup(buf_done) struct buf
