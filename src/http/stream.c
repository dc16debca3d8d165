/* SPDX-License-Identifier: Apache-2.0 */
#include "http/stream-internal.h"

#include "base/str.h"

#include <stdlib.h>

enum { NUDGE_BYTES = 4096 };

/* One write in libuv's hands. It owns its bytes and outlives the output that started it. */
struct http_write {
	uv_write_t req;
	struct http_output *output; /* NULL = detached or done */
	struct buf data;
};

struct http_rbuf *http_rbuf_new(void)
{
	struct http_rbuf *b = xcalloc(1, sizeof(*b));

	b->refs = 1;
	return b;
}

struct http_rbuf *http_rbuf_ref(struct http_rbuf *b)
{
	b->refs++;
	return b;
}

void http_rbuf_unref(struct http_rbuf *b)
{
	b->refs--;
	if (b->refs > 0)
		return;
	splice_pool_done(&b->pipes);
	free(b);
}

void http_output_init(struct http_output *o, uv_stream_t *stream,
		      void (*on_progress)(struct http_output *o))
{
	*o = (struct http_output){
		.stream = stream,
		.pending = BUF_INIT(HTTP_OUTPUT_MAX),
		.on_progress = on_progress,
	};
}

static void write_free(struct http_write *w)
{
	buf_done(&w->data);
	free(w);
}

static void output_submit(struct http_output *o);

static void write_done(uv_write_t *req, int status)
{
	struct http_write *w = container_of(req, struct http_write, req);
	struct http_output *o = w->output;

	write_free(w);
	if (o == NULL)
		return;
	o->writing = NULL;
	if (status < 0)
		o->error = status;
	output_submit(o);
	o->on_progress(o);
}

/* Hands bytes to libuv and empties @data. Return: the write; NULL when there is none. */
static struct http_write *output_write(struct http_output *o, struct buf *data)
{
	struct http_write *w;
	uv_buf_t b;
	int r;

	if (o->error != 0 || data->len == 0)
		return NULL;
	w = xcalloc(1, sizeof(*w));
	w->data = *data;
	buf_init(data, data->max);
	b = uv_buf_init(buf_head(&w->data), (unsigned)w->data.len);
	r = uv_write(&w->req, o->stream, &b, 1, write_done);
	if (r < 0) {
		o->error = r;
		write_free(w);
		return NULL;
	}
	return w;
}

/* One write at a time: what comes meanwhile gathers into the next. */
static void output_submit_buf(struct http_output *o, struct buf *data)
{
	o->writing = output_write(o, data);
	if (o->writing != NULL)
		o->writing->output = o;
}

static void output_give_pipe(struct http_output *o)
{
	if (o->pipe != NULL)
		splice_pipe_give(take_ptr(&o->pipe));
}

/* Copies the first of what the pipe holds into a write of libuv's, which waits for room in the
 * socket, and tells when there is some again. */
static void output_nudge(struct http_output *o)
{
	auto_buf data = BUF_INIT(NUDGE_BYTES);
	char *room;
	ssize_t n = buf_reserve(&data, NUDGE_BYTES, &room);

	if (n == 0)
		n = splice_pipe_read(o->pipe, room, NUDGE_BYTES);
	if (n < 0) {
		o->error = (int)n;
		return;
	}
	buf_commit(&data, (size_t)n);
	output_submit_buf(o, &data);
}

/* Sends what the pipe holds as far as the kernel takes it. */
static void output_drain_pipe(struct http_output *o)
{
	uv_os_fd_t fd;
	int r = uv_fileno((uv_handle_t *)o->stream, &fd);

	if (r == 0)
		r = splice_pipe_drain(o->pipe, fd);
	if (r < 0)
		o->error = r;
	else if (splice_pipe_held(o->pipe) > 0)
		output_nudge(o);
}

static void output_submit(struct http_output *o)
{
	if (o->writing == NULL && o->pipe != NULL && o->error == 0)
		output_drain_pipe(o);
	if (o->pipe != NULL && (o->error != 0 || splice_pipe_held(o->pipe) == 0))
		output_give_pipe(o);
	if (o->writing == NULL)
		output_submit_buf(o, &o->pending);
}

/* Keeps what is left of the pieces after the first @skip bytes. */
static int output_keep(struct http_output *o, const uv_buf_t *bufs, unsigned n, size_t skip)
{
	for (unsigned i = 0; i < n; i++) {
		size_t gone = MIN(skip, bufs[i].len);
		int r = buf_append(&o->pending, bufs[i].base + gone, bufs[i].len - gone);

		if (r < 0)
			return r;
		skip -= gone;
	}
	return 0;
}

void http_output_send(struct http_output *o, uv_buf_t *bufs, unsigned n)
{
	int sent = UV_EAGAIN;

	if (o->error != 0)
		return;
	for (unsigned i = 0; i < n; i++)
		o->accepted += bufs[i].len;
	if (o->writing == NULL)
		sent = uv_try_write(o->stream, bufs, n);
	if (sent == UV_EAGAIN)
		sent = 0;
	if (sent < 0) {
		o->error = sent;
		return;
	}
	o->error = output_keep(o, bufs, n, (size_t)sent);
	output_submit(o);
	if (http_output_queued(o) > HTTP_OUTPUT_HIGH)
		o->blocked = true;
}

bool http_output_may_splice(struct http_output *o, struct http_rbuf *rbuf)
{
	if (o->error != 0 || o->pipe != NULL || o->pending.len > 0)
		return false;
	o->pipe = splice_pipe_take(&rbuf->pipes);
	return o->pipe != NULL;
}

ssize_t http_output_splice(struct http_output *o, uv_stream_t *from, uint64_t max)
{
	uv_os_fd_t fd;
	ssize_t n = uv_fileno((uv_handle_t *)from, &fd);

	if (n == 0)
		n = splice_pipe_fill(o->pipe, fd, max) ?: UV_EOF;
	if (n > 0)
		o->accepted += (uint64_t)n;
	output_submit(o);
	if (o->pipe != NULL)
		o->blocked = true;
	return n == UV_EAGAIN ? 0 : n;
}

size_t http_output_queued(const struct http_output *o)
{
	size_t n = o->pending.len;

	if (o->writing != NULL)
		n += uv_stream_get_write_queue_size(o->stream);
	if (o->pipe != NULL)
		n += splice_pipe_held(o->pipe);
	return n;
}

uint64_t http_output_taken(const struct http_output *o)
{
	return o->accepted - http_output_queued(o);
}

bool http_output_drained(struct http_output *o)
{
	bool waits = o->pipe != NULL || http_output_queued(o) >= HTTP_OUTPUT_LOW;

	if (!o->blocked || (o->error == 0 && waits))
		return false;
	o->blocked = false;
	return true;
}

void http_output_detach(struct http_output *o)
{
	assert(o->pipe == NULL);
	output_write(o, &o->pending); /* libuv keeps the order of several writes */
	http_output_done(o);
}

void http_output_done(struct http_output *o)
{
	if (o->writing != NULL)
		o->writing->output = NULL;
	o->writing = NULL;
	output_give_pipe(o);
	o->stream = NULL;
	o->error = UV_ECANCELED;
	buf_done(&o->pending);
}

static void shutdown_done(uv_shutdown_t *req, int status)
{
	(void)status; /* a peer that is gone shows in reading */
	free(req);
}

void http_stream_shutdown(uv_stream_t *s)
{
	uv_shutdown_t *req = xcalloc(1, sizeof(*req));

	if (uv_shutdown(req, s, shutdown_done) < 0)
		free(req);
}

static void stream_closed(uv_handle_t *h)
{
	free(h);
}

void http_stream_close(uv_stream_t *s)
{
	uv_close((uv_handle_t *)s, stream_closed);
}

void http_stream_reset(uv_stream_t *s)
{
	/* libuv refuses a reset behind a shutdown: the end was sent, so that closing has to do */
	if (s->type != UV_TCP || uv_tcp_close_reset((uv_tcp_t *)s, stream_closed) < 0)
		http_stream_close(s);
}
