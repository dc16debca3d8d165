/* SPDX-License-Identifier: Apache-2.0 */
#include "http/tunnel.h"

#include "base/str.h"
#include "http/server-internal.h"

#include <stdlib.h>

struct tunnel_side {
	struct tunnel *tunnel;
	struct tunnel_side *peer;
	uv_stream_t *stream;    /* owned */
	struct http_output out; /* into `stream` */
	bool reading;
	bool bulk; /* the last read found much */
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
	if (side->bulk && http_output_may_splice(&side->peer->out, side->tunnel->rbuf))
		*out = http_splice_alloc();
	else
		*out = uv_buf_init(side->tunnel->rbuf->bytes, HTTP_READ_BYTES);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b);

/* Reads from a side as long as it has something to say and its peer took all of the last read:
 * a tunnel keeps HTTP_READ_BYTES each way at most, or what a pipe holds. */
static int side_set_reading(struct tunnel_side *side)
{
	bool want = !side->eof && http_output_queued(&side->peer->out) == 0;

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
	bool spliced = http_splice_ready(n, b);

	if (spliced)
		n = http_output_splice(&side->peer->out, stream, SPLICE_PIPE_BYTES);
	side->bulk = n >= HTTP_READ_BYTES;
	if (n > 0 && !spliced) {
		side_send(side->peer, b->base, (size_t)n);
	} else if (n == UV_EOF) {
		side->eof = true;
		side->reading = false;
		uv_read_stop(stream); /* libuv does so by itself at an end that it read */
	} else if (n < 0) {
		tunnel_end(side->tunnel, http_stream_reset);
		return;
	}
	tunnel_settle(side->tunnel);
}

static void on_progress(struct http_output *o)
{
	tunnel_settle(container_of(o, struct tunnel_side, out)->tunnel);
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

static struct tunnel *tunnel_new(uv_stream_t *a, uv_stream_t *b, struct http_rbuf *rbuf)
{
	struct tunnel *t = xcalloc(1, sizeof(*t));

	side_init(&t->a, t, &t->b, a);
	side_init(&t->b, t, &t->a, b);
	t->rbuf = rbuf;
	return t;
}

struct tunnel *tunnel_switch(struct http_exchange *x, const struct http_field *fields,
			     uv_stream_t *up, void (*on_end)(void *arg), void *arg)
{
	auto_buf head = BUF_INIT(2 * HTTP_HEAD_MAX);
	auto_buf early = BUF_INIT(HTTP_EARLY_MAX);
	struct http_rbuf *rbuf;
	uv_stream_t *client;
	struct tunnel *t;

	if (http_write_response(&head, 101, fields) < 0)
		return NULL;
	rbuf = http_rbuf_ref(http_exchange_rbuf(x));
	http_exchange_take(x, &client, &early);
	t = tunnel_new(client, up, rbuf);
	t->on_end = on_end;
	t->arg = arg;
	side_send(&t->a, buf_head(&head), head.len);
	side_send(&t->b, buf_str(&early), early.len);
	return t;
}

void tunnel_send(struct tunnel *t, const void *p, size_t n)
{
	side_send(&t->a, p, n);
}

void tunnel_start(struct tunnel *t)
{
	tunnel_settle(t);
}

void tunnel_abort(struct tunnel *t)
{
	tunnel_free(t, http_stream_reset);
}
