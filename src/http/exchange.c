/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What handlers call. These functions write output and set flags; conn_run() does the rest, after
 * the handler returned, so that no handler is called from within a call of its own.
 */
#include "http/server-internal.h"

#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { REPLY_FIELDS_MAX = HTTP_HEADERS_MAX + 4 };

static const struct http_exchange_events no_events;

struct http_exchange *exchange_new(struct http_conn *c)
{
	struct http_exchange *x = xcalloc(1, sizeof(*x));

	x->conn = c;
	x->events = &no_events;
	return x;
}

void exchange_free(struct http_exchange *x)
{
	http_head_done(&x->head);
	buf_done(&x->collected);
	free(x);
}

void exchange_close(struct http_exchange *x, bool complete)
{
	x->closed = true;
	if (x->events->on_close != NULL)
		x->events->on_close(x, complete, x->arg);
	exchange_free(x);
}

static void refuse_body(struct http_exchange *x)
{
	/* a handler that has answered already is not interested in the body either */
	x->reader = READER_NONE;
	if (!x->started)
		exchange_refuse(x, 413, "the body is too large");
}

void exchange_body_data(struct http_exchange *x, const char *p, size_t n)
{
	if (x->reader == READER_COLLECT) {
		if (buf_append(&x->collected, p, n) < 0)
			refuse_body(x);
		return;
	}
	if (x->events->on_data != NULL)
		x->events->on_data(x, p, n, x->arg);
}

void exchange_body_end(struct http_exchange *x)
{
	x->body_ended = true;
	if (x->reader == READER_COLLECT)
		x->done(x, buf_str(&x->collected), x->collected.len, x->done_arg);
	else if (x->events->on_end != NULL)
		x->events->on_end(x, x->arg);
}

/* The default answer, as JSON. Quotes and control characters of @why do not matter to a reader. */
static void reply_plainly(struct http_exchange *x, int status, const char *why)
{
	char safe[256];
	char body[320];
	int n;

	str_copy(safe, sizeof(safe), why);
	for (char *p = safe; *p != '\0'; p++) {
		if (*p < ' ' || *p == '"' || *p == '\\' || *p == 0x7f)
			*p = '?';
	}
	n = snprintf(body, sizeof(body), "{\"code\":%d,\"message\":\"%s\"}", status, safe);
	http_reply(x, status, NULL, "application/json", body, (size_t)n);
}

void exchange_refuse(struct http_exchange *x, int status, const char *why)
{
	const struct http_server_config *config = &x->conn->server->config;

	x->conn->close_after = true;
	x->reader = READER_NONE;
	if (config->on_malformed != NULL)
		config->on_malformed(x, status, why, config->arg);
	else
		reply_plainly(x, status, why);
}

struct http_rbuf *http_exchange_rbuf(const struct http_exchange *x)
{
	return x->conn->server->rbuf;
}

const struct http_head *http_exchange_head(const struct http_exchange *x)
{
	return &x->head;
}

int64_t http_exchange_peer_uid(const struct http_exchange *x)
{
	uv_stream_t *stream = x->conn->stream;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	uv_os_fd_t fd;

	if (x->conn->server->config.remote || stream == NULL || stream->type != UV_NAMED_PIPE)
		return -1;
	if (uv_fileno((uv_handle_t *)stream, &fd) < 0)
		return -1;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 ? -1 : (int64_t)peer.uid;
}

void http_exchange_bind(struct http_exchange *x, const struct http_exchange_events *events,
			void *arg)
{
	x->events = events;
	x->arg = arg;
}

/* What follows from output: the run gives up a broken connection, and sets the write timer. */
static void settle_output(struct http_exchange *x)
{
	if (x->conn->out.error != 0 ||
	    (conn_waits_for_write(x->conn) && x->conn->timing != CONN_TIMER_WRITE))
		conn_schedule(x->conn);
}

static void send_bufs(struct http_exchange *x, uv_buf_t *bufs, unsigned n)
{
	http_output_send(&x->conn->out, bufs, n);
	settle_output(x);
}

/* Somebody wants the body: a peer that waits for our word gets it. */
static void body_start(struct http_exchange *x, enum body_reader reader)
{
	static char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
	uv_buf_t b = uv_buf_init(go_on, sizeof(go_on) - 1);
	bool arrived = x->conn->in.len > 0 || x->conn->n_fresh > 0;

	x->reader = reader;
	if (x->expect && !arrived && !x->started)
		send_bufs(x, &b, 1);
	x->expect = false;
	conn_schedule(x->conn);
}

void http_body_stream(struct http_exchange *x)
{
	if (!x->closed)
		body_start(x, READER_STREAM);
}

void http_body_pause(struct http_exchange *x, bool pause)
{
	x->paused = pause;
	if (!x->closed)
		conn_schedule(x->conn);
}

void http_body_collect(struct http_exchange *x, size_t max,
		       void (*done)(struct http_exchange *x, const char *body, size_t n, void *arg),
		       void *arg)
{
	if (x->closed)
		return;
	buf_init(&x->collected, max);
	x->done = done;
	x->done_arg = arg;
	if (x->head.body == HTTP_BODY_LENGTH && x->head.content_length > max)
		refuse_body(x);
	else
		body_start(x, READER_COLLECT);
}

/* Whether the rest of the request's body is too much to be read only for a further request's sake.
 */
static bool body_is_burden(const struct http_exchange *x)
{
	const struct http_body *body = &x->conn->body;

	if (body->done)
		return false;
	if (x->expect)
		return true; /* whether the peer will send it, is its choice */
	return x->reader == READER_NONE && body->kind == HTTP_BODY_LENGTH &&
	       body->left > HTTP_DROP_MAX;
}

static bool status_has_body(int status)
{
	return status >= 200 && status != 204 && status != 304;
}

/* Decides how the reply's body is framed and whether the connection ends with it. */
static void reply_frame(struct http_exchange *x, int status, int64_t length)
{
	bool is_head = streq(x->head.method, "HEAD");

	x->started = true;
	x->no_body = is_head || !status_has_body(status);
	x->has_left = length >= 0 && !x->no_body;
	x->left = x->has_left ? (uint64_t)length : 0;
	x->chunked = length < 0 && !x->no_body && x->head.minor >= 1;
	if (!x->no_body && !x->has_left && !x->chunked)
		x->conn->close_after = true;
	if (body_is_burden(x))
		x->conn->close_after = true;
}

/* The framing headers, behind @n others. */
static void reply_framing_fields(const struct http_exchange *x, int status, int64_t length,
				 struct http_field *all, char length_text[24])
{
	size_t n = 0;

	if (length >= 0 && status_has_body(status)) {
		snprintf(length_text, 24, "%lld", (long long)length);
		all[n++] = (struct http_field){ "Content-Length", length_text };
	}
	if (x->chunked)
		all[n++] = (struct http_field){ "Transfer-Encoding", "chunked" };
	if (status >= 200 && x->conn->close_after)
		all[n++] = (struct http_field){ "Connection", "close" };
	else if (status >= 200 && x->head.minor == 0)
		all[n++] = (struct http_field){ "Connection", "keep-alive" };
	all[n] = (struct http_field){ 0 };
}

/* Appends the head to @out. Return: 0; -errno when the fields cannot be written. */
static int reply_write_head(struct http_exchange *x, struct buf *out, int status,
			    const struct http_field *fields, int64_t length)
{
	struct http_field all[REPLY_FIELDS_MAX];
	char length_text[24];
	size_t n = 0;

	for (; fields != NULL && fields[n].name != NULL; n++) {
		if (n >= HTTP_HEADERS_MAX)
			return UV_E2BIG;
		all[n] = fields[n];
	}
	reply_frame(x, status, length);
	reply_framing_fields(x, status, length, all + n, length_text);
	return http_write_response(out, status, all);
}

/* Sends a head and the first bytes of the body in one write. */
static void reply_begin(struct http_exchange *x, int status, const struct http_field *fields,
			int64_t length, uv_buf_t first)
{
	auto_buf head = BUF_INIT(2 * HTTP_HEAD_MAX);
	uv_buf_t bufs[2];
	int r;

	assert(!x->started);
	r = reply_write_head(x, &head, status, fields, length);
	if (r < 0) { /* a value that would break the framing: the handler passed on foreign bytes */
		buf_clear(&head);
		x->conn->close_after = true;
		r = reply_write_head(x, &head, 500, NULL, 0);
		first.len = 0;
	}
	if (r < 0)
		x->conn->broken = true;
	bufs[0] = uv_buf_init(buf_head(&head), (unsigned)head.len);
	bufs[1] = first;
	send_bufs(x, bufs, x->no_body || first.len == 0 ? 1 : 2);
}

void http_reply(struct http_exchange *x, int status, const struct http_field *fields,
		const char *content_type, const void *body, size_t n)
{
	struct http_field all[HTTP_HEADERS_MAX + 1] = { 0 };
	size_t n_fields = 0;

	if (x->closed)
		return;
	if (content_type != NULL)
		all[n_fields++] = (struct http_field){ "Content-Type", content_type };
	while (fields != NULL && fields->name != NULL && n_fields < HTTP_HEADERS_MAX)
		all[n_fields++] = *fields++;
	reply_begin(x, status, all, (int64_t)n,
		    (uv_buf_t){ .base = (char *)(uintptr_t)body, .len = n });
	x->left = 0;
	http_reply_end(x);
}

void http_reply_start(struct http_exchange *x, int status, const struct http_field *fields,
		      int64_t content_length)
{
	if (!x->closed)
		reply_begin(x, status, fields, content_length, (uv_buf_t){ 0 });
}

static void send_chunk(struct http_exchange *x, uv_buf_t data)
{
	static char end[] = "\r\n";
	char size[24];
	int n = snprintf(size, sizeof(size), "%zx\r\n", data.len);
	uv_buf_t bufs[] = { uv_buf_init(size, (unsigned)n), data, uv_buf_init(end, 2) };

	send_bufs(x, bufs, ARRAY_SIZE(bufs));
}

void http_reply_write(struct http_exchange *x, const void *p, size_t n)
{
	uv_buf_t data = { .base = (char *)(uintptr_t)p, .len = n };

	if (x->closed)
		return;
	assert(x->started && !x->ended);
	if (x->has_left) { /* what was not announced would be read as the next reply */
		data.len = (size_t)MIN(x->left, (uint64_t)n);
		x->left -= data.len;
	}
	if (x->no_body || data.len == 0)
		return;
	if (x->chunked)
		send_chunk(x, data);
	else
		send_bufs(x, &data, 1);
}

bool http_reply_may_splice(struct http_exchange *x)
{
	return !x->closed && x->has_left && !x->no_body && x->left >= HTTP_SPLICE_MIN &&
	       http_output_may_splice(&x->conn->out, http_exchange_rbuf(x));
}

ssize_t http_reply_splice(struct http_exchange *x, uv_stream_t *from, uint64_t max)
{
	ssize_t n = http_output_splice(&x->conn->out, from, MIN(x->left, max));

	if (n > 0)
		x->left -= (uint64_t)n;
	settle_output(x);
	return n;
}

bool http_reply_blocked(const struct http_exchange *x)
{
	/* also when nothing can be written any more, or a writer would never stop */
	return x->closed || x->conn->out.blocked || x->conn->out.error != 0;
}

void http_reply_end(struct http_exchange *x)
{
	static char last[] = "0\r\n\r\n";
	uv_buf_t b = uv_buf_init(last, sizeof(last) - 1);

	if (x->closed)
		return;
	assert(x->started && !x->ended);
	if (x->chunked)
		send_bufs(x, &b, 1);
	if (x->left > 0)
		x->conn->broken = true; /* only a reset tells the peer that bytes are missing */
	x->ended = true;
	conn_schedule(x->conn);
}

bool http_reply_started(const struct http_exchange *x)
{
	return x->started;
}

void http_exchange_abort(struct http_exchange *x)
{
	if (!x->closed)
		conn_fail(x->conn);
}

void http_exchange_take(struct http_exchange *x, uv_stream_t **out_stream, struct buf *early)
{
	struct http_conn *c = x->conn;
	uv_stream_t *stream = c->stream;

	assert(!x->closed);
	uv_read_stop(stream);
	stream->data = NULL;
	conn_take_input(c, early);
	http_output_detach(&c->out);
	c->stream = NULL;
	c->x = NULL;
	conn_close(c, false);
	exchange_free(x);
	*out_stream = stream;
}
