/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The last bytes of two interleaved streams, in the order in which they came. When it is full the
 * oldest bytes make room and are counted.
 */
#pragma once

#include "base/macros.h"

enum { RING_MAX_BYTES = 1 << 20 };

/* Records of a head (stream, length) and bytes, in a circle that grows up to RING_MAX_BYTES, heads
 * included. Zeroed = empty, without memory. */
struct ring {
	uint8_t *data;
	size_t cap;  /* power of two */
	size_t head; /* position of the first record */
	size_t len;
	size_t last;            /* position of the newest record's head; only while len > 0 */
	uint64_t dropped_bytes; /* since the start */
};

/** ring_put() - append bytes of a stream, dropping the oldest of all if need be */
void ring_put(struct ring *r, uint8_t stream, const void *p, size_t n);

/**
 * ring_take() - move out the oldest bytes, all of one stream
 * @out:	room for @max bytes
 *
 * Return: the bytes; 0 when the ring is empty.
 */
size_t ring_take(struct ring *r, uint8_t *out_stream, void *out, size_t max);

/** ring_done() - drop all bytes and free the memory; the count stays; idempotent */
void ring_done(struct ring *r);
