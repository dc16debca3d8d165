/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ring.h"

#include "base/str.h"

#include <stdlib.h>

enum { RING_FIRST_BYTES = 512, RECORD_HEAD_SIZE = 5 };

static size_t held(const struct ring *r)
{
	return (size_t)(r->tail - r->head);
}

static void copy_in(struct ring *r, uint64_t place, const void *p, size_t n)
{
	size_t at = (size_t)place & (r->cap - 1);
	size_t first = MIN(n, r->cap - at);

	memcpy(r->data + at, p, first);
	memcpy(r->data, (const uint8_t *)p + first, n - first);
}

static void copy_out(const struct ring *r, uint64_t place, void *p, size_t n)
{
	size_t at = (size_t)place & (r->cap - 1);
	size_t first = MIN(n, r->cap - at);

	memcpy(p, r->data + at, first);
	memcpy((uint8_t *)p + first, r->data, n - first);
}

static uint32_t record_get(const struct ring *r, uint64_t place, uint8_t *out_stream)
{
	uint8_t head[RECORD_HEAD_SIZE];
	uint32_t n;

	copy_out(r, place, head, sizeof(head));
	*out_stream = head[0];
	memcpy(&n, head + 1, sizeof(n));
	return n;
}

static void record_set(struct ring *r, uint64_t place, uint8_t stream, uint32_t n)
{
	uint8_t head[RECORD_HEAD_SIZE];

	head[0] = stream;
	memcpy(head + 1, &n, sizeof(n));
	copy_in(r, place, head, sizeof(head));
}

/* Takes up to @n bytes off the front of the first record, and its head with the last of them. */
static void record_trim(struct ring *r, size_t n)
{
	uint8_t stream;
	uint32_t len = record_get(r, r->head, &stream);

	if (n >= len) {
		r->start[stream] += len;
		r->head += RECORD_HEAD_SIZE + len;
		return;
	}
	if (r->last == r->head)
		r->last += n;
	r->start[stream] += n;
	r->head += n;
	record_set(r, r->head, stream, len - (uint32_t)n);
}

/* The largest circle that the ring could have now. */
static size_t cap_limit(const struct ring *r)
{
	size_t cap = r->cap != 0 ? r->cap : RING_FIRST_BYTES;
	size_t room = RING_MAX_BYTES;

	if (r->budget != NULL)
		room = r->budget->max_bytes - MIN(r->budget->max_bytes, r->budget->used_bytes);
	while (cap < RING_MAX_BYTES && 2 * cap - r->cap <= room)
		cap *= 2;
	return cap;
}

/* The first bytes are always there, so that every process's output gets through. */
static uint8_t *new_data(const struct ring *r, size_t cap)
{
	return r->cap == 0 && cap == RING_FIRST_BYTES ? xcalloc(1, cap) : malloc(cap);
}

/* Makes the circle large enough for @need bytes, or as large as it may get. */
static void ring_grow(struct ring *r, size_t need)
{
	size_t limit = cap_limit(r);
	size_t cap = r->cap != 0 ? r->cap : RING_FIRST_BYTES;
	struct ring bigger = *r;

	while (cap < need && cap < limit)
		cap *= 2;
	if (cap == r->cap)
		return;
	bigger.data = new_data(r, cap);
	if (bigger.data == NULL)
		return; /* then the oldest bytes make room sooner */
	bigger.cap = cap;
	for (uint64_t at = r->head; at < r->tail;) {
		size_t from = (size_t)at & (r->cap - 1);
		size_t n = (size_t)MIN(r->tail - at, (uint64_t)(r->cap - from));

		copy_in(&bigger, at, r->data + from, n);
		at += n;
	}
	if (r->budget != NULL)
		r->budget->used_bytes += cap - r->cap;
	free(r->data);
	*r = bigger;
}

static void drop_all(struct ring *r)
{
	r->head = r->tail;
	memcpy(r->start, r->end, sizeof(r->start));
}

static void make_room(struct ring *r, size_t need)
{
	while (r->cap - held(r) < need)
		record_trim(r, need - (r->cap - held(r)));
}

size_t ring_most(const struct ring *r)
{
	return cap_limit(r) - RECORD_HEAD_SIZE;
}

bool ring_is_short(const struct ring *r, size_t n)
{
	return MIN(held(r) + RECORD_HEAD_SIZE + n, (size_t)RING_MAX_BYTES) > cap_limit(r);
}

/* Bytes that the whole circle cannot hold: as if they had been put and dropped. */
static const uint8_t *skip_excess(struct ring *r, uint8_t stream, const uint8_t *p, size_t *n)
{
	size_t most = r->cap > 0 ? r->cap - RECORD_HEAD_SIZE : 0;
	size_t excess = *n > most ? *n - most : 0;

	if (excess > 0) {
		r->tail++; /* no cursor is here, so that all of them see that something is gone */
		drop_all(r);
		r->start[stream] += excess;
		r->end[stream] += excess;
		*n = most;
	}
	return p + excess;
}

void ring_put(struct ring *r, uint8_t stream, const void *p, size_t n)
{
	const uint8_t *bytes;
	uint8_t last_stream = 0;
	uint32_t last_len = 0;

	if (n == 0)
		return;
	ring_grow(r, held(r) + RECORD_HEAD_SIZE + n);
	bytes = skip_excess(r, stream, p, &n);
	if (n == 0)
		return;
	make_room(r, RECORD_HEAD_SIZE + n);
	r->end[stream] += n;
	if (r->head < r->tail)
		last_len = record_get(r, r->last, &last_stream);
	if (last_len > 0 && last_stream == stream) {
		copy_in(r, r->tail, bytes, n);
		record_set(r, r->last, stream, last_len + (uint32_t)n);
		r->tail += n;
		return;
	}
	r->last = r->tail;
	record_set(r, r->last, stream, (uint32_t)n);
	copy_in(r, r->last + RECORD_HEAD_SIZE, bytes, n);
	r->tail += RECORD_HEAD_SIZE + n;
}

/* To the first byte that is held. */
static void cursor_rewind(const struct ring *r, struct ring_cursor *c)
{
	c->at = r->head;
	c->used = 0;
	memcpy(c->pos, r->start, sizeof(c->pos));
}

struct ring_cursor ring_seek(const struct ring *r, const uint64_t want[RING_STREAMS])
{
	struct ring_cursor c;

	memcpy(c.want, want, sizeof(c.want));
	cursor_rewind(r, &c);
	return c;
}

/*
 * Goes to the next byte that is wanted.
 * Return: how many more of its stream's bytes are in its record; 0 at the end.
 */
static uint32_t cursor_settle(const struct ring *r, struct ring_cursor *c, uint8_t *out_stream)
{
	if (c->at < r->head)
		cursor_rewind(r, c);
	while (c->at < r->tail) {
		uint32_t len = record_get(r, c->at, out_stream);
		uint64_t *pos = &c->pos[*out_stream];
		uint64_t want = c->want[*out_stream];
		uint32_t left = len - c->used;
		uint32_t skip = want > *pos ? (uint32_t)MIN(want - *pos, (uint64_t)left) : 0;

		c->used += skip;
		*pos += skip;
		if (skip < left)
			return left - skip;
		if (c->at == r->last)
			return 0; /* not behind it: it may become longer */
		c->at += RECORD_HEAD_SIZE + len;
		c->used = 0;
	}
	return 0;
}

bool ring_read(const struct ring *r, struct ring_cursor *c, void *buf, size_t max,
	       struct ring_piece *out)
{
	uint8_t stream = 0;
	size_t n = MIN((size_t)cursor_settle(r, c, &stream), max);

	if (n == 0)
		return false;
	copy_out(r, c->at + RECORD_HEAD_SIZE + c->used, buf, n);
	*out = (struct ring_piece){ .position = c->pos[stream], .n = n, .stream = stream };
	c->used += (uint32_t)n;
	c->pos[stream] += n;
	c->want[stream] = c->pos[stream];
	return true;
}

uint64_t ring_lost(const struct ring *r, const struct ring_cursor *c)
{
	uint64_t lost = 0;

	for (size_t i = 0; i < RING_STREAMS; i++)
		if (r->start[i] > c->want[i])
			lost += r->start[i] - c->want[i];
	return lost;
}

bool ring_at_end(const struct ring *r, const struct ring_cursor *c)
{
	struct ring_cursor look = *c;
	uint8_t stream;

	return cursor_settle(r, &look, &stream) == 0;
}

bool ring_cursor_before(const struct ring_cursor *a, const struct ring_cursor *b)
{
	return a->at != b->at ? a->at < b->at : a->used < b->used;
}

void ring_done(struct ring *r)
{
	drop_all(r);
	if (r->budget != NULL)
		r->budget->used_bytes -= r->cap;
	free(r->data);
	r->data = NULL;
	r->cap = 0;
}
