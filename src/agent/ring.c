/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/ring.h"

#include <stdlib.h>
#include <string.h>

enum { RING_FIRST_BYTES = 4096, RECORD_HEAD_SIZE = 5 };

static void copy_in(struct ring *r, size_t at, const void *p, size_t n)
{
	size_t first;

	at &= r->cap - 1;
	first = MIN(n, r->cap - at);
	memcpy(r->data + at, p, first);
	memcpy(r->data, (const uint8_t *)p + first, n - first);
}

static void copy_out(const struct ring *r, size_t at, void *p, size_t n)
{
	size_t first;

	at &= r->cap - 1;
	first = MIN(n, r->cap - at);
	memcpy(p, r->data + at, first);
	memcpy((uint8_t *)p + first, r->data, n - first);
}

static uint32_t record_get(const struct ring *r, size_t at, uint8_t *out_stream)
{
	uint8_t head[RECORD_HEAD_SIZE];
	uint32_t n;

	copy_out(r, at, head, sizeof(head));
	*out_stream = head[0];
	memcpy(&n, head + 1, sizeof(n));
	return n;
}

static void record_set(struct ring *r, size_t at, uint8_t stream, uint32_t n)
{
	uint8_t head[RECORD_HEAD_SIZE];

	head[0] = stream;
	memcpy(head + 1, &n, sizeof(n));
	copy_in(r, at, head, sizeof(head));
}

/* Takes @n <= its length bytes off the front of the first record. */
static void record_trim(struct ring *r, uint32_t n)
{
	uint8_t stream;
	uint32_t len = record_get(r, r->head, &stream);
	bool only = r->len == RECORD_HEAD_SIZE + len;

	if (n == len) {
		r->head += RECORD_HEAD_SIZE + len;
		r->len -= RECORD_HEAD_SIZE + len;
	} else {
		r->head += n;
		r->len -= n;
		record_set(r, r->head, stream, len - n);
	}
	r->head &= r->cap - 1;
	if (only)
		r->last = r->head;
}

/* Makes the circle large enough for @need bytes, or as large as it may get. */
static void ring_grow(struct ring *r, size_t need)
{
	size_t cap = r->cap != 0 ? r->cap : RING_FIRST_BYTES;
	uint8_t *data;

	while (cap < need && cap < RING_MAX_BYTES)
		cap *= 2;
	if (cap == r->cap)
		return;
	data = malloc(cap);
	if (data == NULL)
		return; /* then the oldest bytes make room sooner */
	if (r->len > 0) {
		copy_out(r, r->head, data, r->len);
		r->last = (r->last - r->head) & (r->cap - 1);
	}
	free(r->data);
	r->data = data;
	r->cap = cap;
	r->head = 0;
}

static void make_room(struct ring *r, size_t need)
{
	while (r->cap - r->len < need) {
		uint8_t stream;
		uint32_t len = record_get(r, r->head, &stream);
		size_t lack = need - (r->cap - r->len);
		uint32_t drop = (uint32_t)MIN(lack, len);

		r->dropped_bytes += drop;
		record_trim(r, drop);
	}
}

void ring_put(struct ring *r, uint8_t stream, const void *p, size_t n)
{
	const uint8_t *bytes = p;
	uint8_t last_stream = 0;
	uint32_t last_len = 0;
	size_t most;

	ring_grow(r, r->len + RECORD_HEAD_SIZE + n);
	most = r->cap > 0 ? r->cap - RECORD_HEAD_SIZE : 0;
	if (n > most) {
		r->dropped_bytes += n - most;
		bytes += n - most;
		n = most;
	}
	if (n == 0)
		return;
	make_room(r, RECORD_HEAD_SIZE + n);
	if (r->len > 0)
		last_len = record_get(r, r->last, &last_stream);
	if (last_len > 0 && last_stream == stream) {
		copy_in(r, r->head + r->len, bytes, n);
		record_set(r, r->last, stream, last_len + (uint32_t)n);
		r->len += n;
		return;
	}
	r->last = (r->head + r->len) & (r->cap - 1);
	record_set(r, r->last, stream, (uint32_t)n);
	copy_in(r, r->last + RECORD_HEAD_SIZE, bytes, n);
	r->len += RECORD_HEAD_SIZE + n;
}

size_t ring_take(struct ring *r, uint8_t *out_stream, void *out, size_t max)
{
	uint32_t n;

	if (r->len == 0)
		return 0;
	n = (uint32_t)MIN(record_get(r, r->head, out_stream), max);
	copy_out(r, r->head + RECORD_HEAD_SIZE, out, n);
	record_trim(r, n);
	return n;
}

void ring_done(struct ring *r)
{
	uint64_t dropped_bytes = r->dropped_bytes;

	free(r->data);
	*r = (struct ring){ .dropped_bytes = dropped_bytes };
}
