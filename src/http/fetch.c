/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Connect, send, read until the body is complete; a timer bounds all of it.
 * Whatever happens first ends it: finish() closes both handles and calls done; callbacks that
 * libuv still owes us afterwards find `done` gone. The memory goes with the last handle.
 */
#include "http/fetch.h"

#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>

enum { CHUNK_BYTES = 4096, REQUEST_MAX = 8192, FIELDS_MAX = 8 };

struct http_fetch {
	uv_tcp_t tcp;
	uv_timer_t timer;
	uv_connect_t connect;
	uv_write_t write;
	unsigned open;                                                   /* handles */
	void (*done)(int status, const char *body, size_t n, void *arg); /* NULL = it is over */
	void *arg;
	struct buf out;
	struct buf in;
	struct buf payload;
	struct http_head head;
	struct http_body body;
	bool has_head;
	int refused; /* why it could not even begin: -errno */
	char chunk[CHUNK_BYTES];
};

static void on_closed(uv_handle_t *handle)
{
	struct http_fetch *f = handle->data;

	if (--f->open > 0)
		return;
	buf_done(&f->out);
	buf_done(&f->in);
	buf_done(&f->payload);
	http_head_done(&f->head);
	free(f);
}

void http_fetch_cancel(struct http_fetch *f)
{
	if (f == NULL || f->done == NULL)
		return;
	f->done = NULL;
	uv_close((uv_handle_t *)&f->tcp, on_closed);
	uv_close((uv_handle_t *)&f->timer, on_closed);
}

static void finish(struct http_fetch *f, int status)
{
	void (*done)(int status, const char *body, size_t n, void *arg) = f->done;
	bool whole = status >= 0;

	if (done == NULL)
		return;
	http_fetch_cancel(f); /* its memory stays until the loop runs again */
	done(status, whole ? buf_str(&f->payload) : NULL, whole ? f->payload.len : 0, f->arg);
}

static void on_timeout(uv_timer_t *timer)
{
	finish(timer->data, -ETIMEDOUT);
}

/* Return: 1 the body is complete; 0 more is needed; -errno. */
static int take_body(struct http_fetch *f)
{
	while (!f->body.done && f->in.len > 0) {
		const char *data;
		size_t used;
		size_t len;
		int r = http_body_next(&f->body, buf_head(&f->in), f->in.len, &used, &data, &len);

		if (r == 0)
			r = buf_append(&f->payload, data, len);
		if (r < 0)
			return r;
		buf_consume(&f->in, used);
		if (used == 0)
			break;
	}
	return f->body.done;
}

/* Return: as take_body(). */
static int take(struct http_fetch *f)
{
	while (!f->has_head) {
		struct err e = { 0 };
		int r = http_head_parse_response(&f->in, "GET", &f->head, &e);

		if (r <= 0)
			return r;
		f->has_head = f->head.status >= 200;
		if (!f->has_head)
			http_head_done(&f->head);
		else
			http_body_init(&f->body, &f->head);
	}
	return take_body(f);
}

static void on_end(struct http_fetch *f, int r)
{
	if (r == UV_EOF && f->has_head && f->body.kind == HTTP_BODY_EOF)
		finish(f, f->head.status);
	else
		finish(f, r == UV_EOF ? -ECONNRESET : r);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *unused)
{
	struct http_fetch *f = stream->data;
	int r;

	(void)unused;
	if (f->done == NULL || n == 0)
		return;
	if (n < 0) {
		on_end(f, (int)n);
		return;
	}
	r = buf_append(&f->in, f->chunk, (size_t)n);
	if (r == 0)
		r = take(f);
	if (r != 0)
		finish(f, r < 0 ? r : f->head.status);
}

static void on_alloc(uv_handle_t *handle, size_t size, uv_buf_t *out)
{
	struct http_fetch *f = handle->data;

	(void)size;
	*out = uv_buf_init(f->chunk, sizeof(f->chunk));
}

static void on_written(uv_write_t *req, int status)
{
	if (status < 0)
		finish(req->data, status);
}

static void on_connected(uv_connect_t *req, int status)
{
	struct http_fetch *f = req->data;
	uv_buf_t out;

	if (f->done == NULL)
		return;
	if (status == 0)
		status = uv_read_start((uv_stream_t *)&f->tcp, on_alloc, on_read);
	if (status == 0) {
		out = uv_buf_init(buf_head(&f->out), (unsigned)f->out.len);
		status = uv_write(&f->write, (uv_stream_t *)&f->tcp, &out, 1, on_written);
	}
	if (status < 0)
		finish(f, status);
}

static int write_request(struct http_fetch *f, const struct http_fetch_spec *spec)
{
	struct http_field fields[FIELDS_MAX] = { { 0 } };
	char host[INET_ADDRSTRLEN + 8];
	char addr[INET_ADDRSTRLEN];
	size_t n = 0;
	int r;

	inet_ntop(AF_INET, &spec->addr.sin_addr, addr, sizeof(addr));
	r = str_fit(host, sizeof(host), "%s:%u", addr, ntohs(spec->addr.sin_port));
	if (r < 0)
		return r;
	fields[n++] = (struct http_field){ "Host", host };
	fields[n++] = (struct http_field){ "Connection", "close" };
	if (spec->method != NULL)
		fields[n++] = (struct http_field){ "Content-Length", "0" };
	for (const struct http_field *i = spec->fields; i != NULL && i->name != NULL; i++) {
		assert(n < FIELDS_MAX - 1);
		fields[n++] = *i;
	}
	return http_write_request(&f->out, spec->method != NULL ? spec->method : "GET",
				  spec->target, fields);
}

/* What cannot even begin ends at the loop's next turn, as all else does. */
static void on_refused(uv_timer_t *timer)
{
	struct http_fetch *f = timer->data;

	finish(f, f->refused);
}

struct http_fetch *http_fetch_start(uv_loop_t *loop, const struct http_fetch_spec *spec)
{
	struct http_fetch *f = xcalloc(1, sizeof(*f));
	int r;

	f->done = spec->done;
	f->arg = spec->arg;
	buf_init(&f->out, REQUEST_MAX);
	buf_init(&f->in, HTTP_HEAD_MAX + CHUNK_BYTES);
	buf_init(&f->payload, spec->max_bytes);
	uv_tcp_init(loop, &f->tcp);
	uv_timer_init(loop, &f->timer);
	f->open = 2;
	f->tcp.data = f->timer.data = f->connect.data = f->write.data = f;
	r = write_request(f, spec);
	if (r == 0)
		r = uv_tcp_connect(&f->connect, &f->tcp, (const struct sockaddr *)&spec->addr,
				   on_connected);
	f->refused = r;
	uv_timer_start(&f->timer, r < 0 ? on_refused : on_timeout, r < 0 ? 0 : spec->timeout_ms, 0);
	return f;
}
