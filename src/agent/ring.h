/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last bytes of interleaved streams, in the order in which they came, with the position of each
 * byte in its stream. When it is full the oldest bytes make room. Reading takes nothing out: each
 * reader has a cursor of its own.
 */
#pragma once

#include "base/macros.h"

enum { RING_STREAMS = 3, RING_MAX_BYTES = 1 << 20 };

/* The memory that several rings have together. Zeroed with max_bytes = SIZE_MAX: no limit. */
struct ring_budget {
	size_t max_bytes;
	size_t used_bytes;
};

/*
 * Records of a head (stream, length) and bytes, in a circle that grows up to RING_MAX_BYTES, heads
 * included. Places (head, tail, last) only grow: the byte of a place is data[place & (cap - 1)].
 * Zeroed = empty, without memory and without a budget.
 */
struct ring {
	struct ring_budget *budget; /* borrowed; NULL = none */
	uint8_t *data;
	size_t cap;                   /* power of two */
	uint64_t head;                /* place of the first record */
	uint64_t tail;                /* place behind the last one */
	uint64_t last;                /* place of the newest record; only while head < tail */
	uint64_t start[RING_STREAMS]; /* position in the stream of the first byte that is held */
	uint64_t end[RING_STREAMS];   /* and of the next one to come */
};

/* Where a reader is. Zeroed = at the beginning of all streams. */
struct ring_cursor {
	uint64_t at;                 /* place of a record */
	uint32_t used;               /* bytes of it that are behind us */
	uint64_t pos[RING_STREAMS];  /* where this is in the streams */
	uint64_t want[RING_STREAMS]; /* what is before this is not wanted (again) */
};

/* Bytes that were read. */
struct ring_piece {
	uint64_t position; /* in its stream, of the first one */
	size_t n;
	uint8_t stream;
};

/** ring_put() - append bytes of a stream, dropping the oldest of all if need be */
void ring_put(struct ring *r, uint8_t stream, const void *p, size_t n);

/** ring_most() - how many bytes ring_put() can take at once without losing some of them */
size_t ring_most(const struct ring *r);

/** ring_is_short() - whether more budget would save older bytes when @n are put */
bool ring_is_short(const struct ring *r, size_t n);

/**
 * ring_seek() - a cursor that reads what the ring holds of each stream from a position on
 * @want:	positions, one per stream
 */
struct ring_cursor ring_seek(const struct ring *r, const uint64_t want[RING_STREAMS]);

/**
 * ring_read() - copy the next bytes, all of one stream, and move the cursor behind them
 * @buf:	room for @max bytes
 *
 * Bytes that were dropped before they were read are skipped; the position tells. Return: false at
 * the end.
 */
bool ring_read(const struct ring *r, struct ring_cursor *c, void *buf, size_t max,
	       struct ring_piece *out);

/** ring_lost() - how many bytes a cursor would have read, had they not been dropped */
uint64_t ring_lost(const struct ring *r, const struct ring_cursor *c);

/** ring_at_end() - whether a cursor has read everything */
bool ring_at_end(const struct ring *r, const struct ring_cursor *c);

/** ring_cursor_before() - whether cursor @a is before @b in the order in which the bytes came */
bool ring_cursor_before(const struct ring_cursor *a, const struct ring_cursor *b);

/** ring_done() - drop all bytes and free the memory; positions and cursors stay; idempotent */
void ring_done(struct ring *r);
