/* SPDX-License-Identifier: Apache-2.0 */
/* Two streams joined: bytes and ends go across both ways, with back-pressure. Loop thread only. */
#pragma once

#include "http/stream-internal.h"

struct tunnel;

/**
 * tunnel_new() - join two open streams that nobody reads
 * @a, @b:	owned from now on
 * @rbuf:	a reference is kept
 * @on_end:	the last call: both sides ended, or one failed and both were reset; the tunnel is
 * gone
 *
 * Nothing is read before tunnel_start().
 */
struct tunnel *tunnel_new(uv_stream_t *a, uv_stream_t *b, struct http_rbuf *rbuf,
			  void (*on_end)(void *arg), void *arg);

/** tunnel_send_a() - send bytes to @a, ahead of what @b will say */
void tunnel_send_a(struct tunnel *t, const void *p, size_t n);

/** tunnel_send_b() - send bytes to @b, ahead of what @a will say */
void tunnel_send_b(struct tunnel *t, const void *p, size_t n);

/** tunnel_start() - begin to read both streams; on_end may be called from within */
void tunnel_start(struct tunnel *t);

/** tunnel_abort() - reset both streams and free; on_end is not called */
void tunnel_abort(struct tunnel *t);
