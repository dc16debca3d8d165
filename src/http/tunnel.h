/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What follows an upgrade: the connection of an exchange and another stream, joined. Bytes and ends
 * go across both ways, with back-pressure: at most 64 KiB each way are held, or a pipe of them
 * where there is much to move (http/splice.h). Loop thread only.
 */
#pragma once

#include "http/server.h"

struct tunnel;

/**
 * tunnel_switch() - answer an exchange with 101 and join its connection with a stream
 * @fields:	headers of the answer, Connection and Upgrade among them, ended by a NULL name
 * @up:		open, and read by nobody; owned from now on
 * @on_end:	the last call: both sides ended, or one failed and both were reset; the tunnel is
 *		gone
 *
 * The exchange is gone afterwards, without on_close. Nothing is read before tunnel_start().
 * Return: the tunnel; NULL: the fields make no head; nothing was done, @up stays the caller's.
 */
struct tunnel *tunnel_switch(struct http_exchange *x, const struct http_field *fields,
			     uv_stream_t *up, void (*on_end)(void *arg), void *arg);

/** tunnel_send() - send bytes to the client, ahead of what the stream will say */
void tunnel_send(struct tunnel *t, const void *p, size_t n);

/** tunnel_start() - begin to read both streams; on_end may be called from within */
void tunnel_start(struct tunnel *t);

/** tunnel_abort() - reset both streams and free; on_end is not called */
void tunnel_abort(struct tunnel *t);
