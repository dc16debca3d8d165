/* SPDX-License-Identifier: Apache-2.0 */
#include "http/tunnel-internal.h"

#include "base/str.h"

#include <stdlib.h>

struct tunnel_side {
	struct tunnel *tunnel;
	struct tunnel_side *peer;
	uv_stream_t *stream;    /* owned */
	struct http_output out; /* into `stream` */
	bool reading;
	bool eof;  /* the stream said its last word */
	bool shut; /* and was told so of its peer */
};

struct tunnel {
	struct tunnel_side a;
	struct tunnel_side b;
	struct http_rbuf *rbuf;
	void (*on_end)(void *arg);
	void *arg;
};

static void tunnel_free(struct tunnel *t, void (*end)(uv_stream_t *s))
{
	http_output_done(&t->a.out);
	http_output_done(&t->b.out);
	end(t->a.stream);
	end(t->b.stream);
	http_rbuf_unref(t->rbuf);
	free(t);
}

static void tunnel_end(struct tunnel *t, void (*end)(uv_stream_t *s))
{
	void (*on_end)(void *arg) = t->on_end;
	void *arg = t->arg;

	tunnel_free(t, end);
	on_end(arg);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
	struct tunnel_side *side = h->data;

	(void)suggested;
	*out = uv_buf_init(side->tunnel->rbuf->bytes, HTTP_READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b);

/* Reads from a side as long as it has something to say and its peer keeps up. */
static int side_set_reading(struct tunnel_side *side)
{
	bool want = !side->eof && !side->peer->out.blocked;

	if (want == side->reading)
		return 0;
	side->reading = want;
	return want ? uv_read_start(side->stream, on_alloc, on_read) : uv_read_stop(side->stream);
}

/* Passes the end of the peer on, behind its last byte. */
static void side_shut(struct tunnel_side *side)
{
	if (side->shut || !side->peer->eof || http_output_queued(&side->out) > 0)
		return;
	side->shut = true;
	http_stream_shutdown(side->stream);
}

/* Does what follows from a change of either side; the tunnel may be gone afterwards. */
static void tunnel_settle(struct tunnel *t)
{
	if (t->a.out.error != 0 || t->b.out.error != 0) {
		tunnel_end(t, http_stream_reset);
		return;
	}
	side_shut(&t->a);
	side_shut(&t->b);
	if (t->a.shut && t->b.shut)
		tunnel_end(t, http_stream_close);
	else if (side_set_reading(&t->a) < 0 || side_set_reading(&t->b) < 0)
		tunnel_end(t, http_stream_reset);
}

static void side_send(struct tunnel_side *side, const void *p, size_t n)
{
	uv_buf_t data = { .base = (char *)(uintptr_t)p, .len = n };

	if (n > 0)
		http_output_send(&side->out, &data, 1);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
	struct tunnel_side *side = stream->data;

	if (n > 0) {
		side_send(side->peer, b->base, (size_t)n);
	} else if (n == UV_EOF) {
		side->eof = true;
		side->reading = false; /* libuv stops by itself */
	} else if (n < 0) {
		tunnel_end(side->tunnel, http_stream_reset);
		return;
	}
	tunnel_settle(side->tunnel);
}

static void on_progress(struct http_output *o)
{
	struct tunnel_side *side = container_of(o, struct tunnel_side, out);

	http_output_drained(o); /* clears `blocked` in time; settling looks at that */
	tunnel_settle(side->tunnel);
}

static void side_init(struct tunnel_side *side, struct tunnel *t, struct tunnel_side *peer,
		      uv_stream_t *stream)
{
	side->tunnel = t;
	side->peer = peer;
	side->stream = stream;
	stream->data = side;
	http_output_init(&side->out, stream, on_progress);
}

struct tunnel *tunnel_new(uv_stream_t *a, uv_stream_t *b, struct http_rbuf *rbuf,
			  void (*on_end)(void *arg), void *arg)
{
	struct tunnel *t = xcalloc(1, sizeof(*t));

	side_init(&t->a, t, &t->b, a);
	side_init(&t->b, t, &t->a, b);
	t->rbuf = http_rbuf_ref(rbuf);
	t->on_end = on_end;
	t->arg = arg;
	return t;
}

void tunnel_send_a(struct tunnel *t, const void *p, size_t n)
{
	side_send(&t->a, p, n);
}

void tunnel_send_b(struct tunnel *t, const void *p, size_t n)
{
	side_send(&t->b, p, n);
}

void tunnel_start(struct tunnel *t)
{
	tunnel_settle(t);
}

void tunnel_abort(struct tunnel *t)
{
	tunnel_free(t, http_stream_reset);
}
