/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Each exchange gets an upstream connection of its own, which ends with it.
 *
 *	CONNECTING	the body of the request is not read yet
 *	DETOUR		nor here: the address refused; whoever knows a way to it is asked for that
 *	HEAD		the request is sent; the head of the response is awaited
 *	BODY		the response is passed on
 *	ENDING		all of the response is in the exchange's output; upstream is closed
 *	TUNNEL		after a 101, both streams belong to the tunnel
 *	OVER		nothing is open; the memory waits for the timer to close
 *
 * A stream ends in one of three ways: whole; by the exchange's on_close(incomplete), which resets
 * the upstream; or by the upstream or proxy_abort_all(), which before a head is the caller's to
 * answer (on_fail) and later aborts the exchange, so that a broken response never looks like a
 * whole one.
 *
 * The head of the request is written anew for the detour, which few take, so that nobody keeps it.
 * When the detour leads nowhere either, what the address said first holds: refused.
 *
 * Back-pressure: the exchange's body is paused while the output to the upstream is blocked, and the
 * upstream is not read while the reply is blocked.
 *
 * What is left of a body whose length is known goes across by splice(2) as long as it is long.
 */
#include "http/proxy.h"

#include "base/str.h"
#include "http/proxy-internal.h"
#include "http/server-internal.h"
#include "http/stream-internal.h"
#include "http/tunnel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { CONNECT_TIMEOUT_MS = 5000 };

static const struct http_exchange_events no_events;

/* Leaves upstream. With @reset it learns that the stream did not end well. */
static void upstream_close(struct proxy_conn *p, bool reset)
{
	if (p->connect != NULL)
		p->connect->conn = NULL;
	p->connect = NULL;
	http_output_done(&p->out);
	if (p->up != NULL && reset)
		http_stream_reset(p->up);
	else if (p->up != NULL)
		http_stream_close(p->up);
	p->up = NULL;
}

static void proxy_free(uv_handle_t *timer)
{
	struct proxy_conn *p = timer->data;

	buf_done(&p->in);
	http_rbuf_unref(p->rbuf);
	free(p);
}

/* The end of the stream; nothing is open. */
static void proxy_over(struct proxy_conn *p)
{
	p->state = PROXY_OVER;
	proxy_group_remove(p);
	uv_close((uv_handle_t *)&p->timer, proxy_free);
	if (p->spec.on_done != NULL)
		p->spec.on_done(p->spec.arg);
}

/* Nothing was answered yet: the caller does it. */
static void proxy_fail(struct proxy_conn *p, int code)
{
	struct http_exchange *x = take_ptr(&p->x);

	if (p->state == PROXY_DETOUR && code != EBUSY && code != ESHUTDOWN)
		code = ECONNREFUSED;
	upstream_close(p, true);
	proxy_group_remove(p);
	http_exchange_bind(x, &no_events, NULL);
	http_body_pause(x, false);
	p->spec.on_fail(x, code, p->spec.arg);
	proxy_over(p);
}

/* The upstream went away or makes no sense. */
static void upstream_broken(struct proxy_conn *p, int code)
{
	if (p->state <= PROXY_HEAD)
		proxy_fail(p, code);
	else
		http_exchange_abort(p->x); /* which ends the stream by on_close */
}

static void on_body_data(struct http_exchange *x, const char *data, size_t n, void *arg)
{
	struct proxy_conn *p = arg;
	static char end[] = "\r\n";
	char size[24];
	uv_buf_t bufs[3];

	if (p->up == NULL)
		return;
	bufs[0] = uv_buf_init(size, (unsigned)snprintf(size, sizeof(size), "%zx\r\n", n));
	bufs[1] = (uv_buf_t){ .base = (char *)(uintptr_t)data, .len = n };
	bufs[2] = uv_buf_init(end, 2);
	if (p->chunked)
		http_output_send(&p->out, bufs, 3);
	else
		http_output_send(&p->out, bufs + 1, 1);
	if (p->out.blocked)
		http_body_pause(x, true);
}

static void on_body_end(struct http_exchange *x, void *arg)
{
	static char last[] = "0\r\n\r\n";
	struct proxy_conn *p = arg;
	uv_buf_t b = uv_buf_init(last, sizeof(last) - 1);

	(void)x;
	p->request_done = true;
	if (p->chunked && p->up != NULL)
		http_output_send(&p->out, &b, 1);
}

/* The exchange's body is passed on as it is, unless it is in chunks. */
static struct http_output *body_sink(struct http_exchange *x, void *arg)
{
	struct proxy_conn *p = arg;

	(void)x;
	return p->up == NULL ? NULL : &p->out;
}

/* A failure to write is left to reading: the upstream may have answered before it went. */
static void on_progress(struct http_output *o)
{
	struct proxy_conn *p = container_of(o, struct proxy_conn, out);

	if (http_output_drained(o) && p->x != NULL)
		http_body_pause(p->x, false);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b);

static bool response_may_splice(struct proxy_conn *p)
{
	return p->state == PROXY_BODY && p->body.kind == HTTP_BODY_LENGTH &&
	       p->body.left >= HTTP_SPLICE_MIN && http_reply_may_splice(p->x);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
	struct proxy_conn *p = h->data;

	(void)suggested;
	if (response_may_splice(p))
		*out = http_splice_alloc();
	else
		*out = uv_buf_init(p->rbuf->bytes, HTTP_READ_BYTES);
}

static void upstream_set_reading(struct proxy_conn *p, bool want)
{
	int r;

	if (p->up == NULL || want == p->reading)
		return;
	p->reading = want;
	r = want ? uv_read_start(p->up, on_alloc, on_read) : uv_read_stop(p->up);
	if (r < 0)
		upstream_broken(p, -r);
}

static void on_reply_drain(struct http_exchange *x, void *arg)
{
	(void)x;
	upstream_set_reading(arg, true);
}

static void on_exchange_close(struct http_exchange *x, bool complete, void *arg)
{
	struct proxy_conn *p = arg;

	(void)x;
	p->x = NULL;
	upstream_close(p, !complete);
	proxy_over(p);
}

static const struct http_exchange_events proxy_events = {
	.on_data = on_body_data,
	.on_end = on_body_end,
	.sink = body_sink,
	.on_drain = on_reply_drain,
	.on_close = on_exchange_close,
};

static void reply_end(struct proxy_conn *p)
{
	p->state = PROXY_ENDING;
	upstream_close(p, false);
	http_body_pause(p->x, false); /* what is left of the request is dropped */
	proxy_group_check(p->spec.group);
	http_reply_end(p->x);
}

static void response_settle(struct proxy_conn *p)
{
	if (p->body.done)
		reply_end(p);
	else
		upstream_set_reading(p, !http_reply_blocked(p->x));
}

/* Passes a piece of the response's body on. */
static void response_body(struct proxy_conn *p, const char *in, size_t n)
{
	const char *data;
	size_t used = 1;
	size_t len;

	for (; !p->body.done && used > 0; in += used, n -= used) {
		if (http_body_next(&p->body, in, n, &used, &data, &len) < 0) {
			upstream_broken(p, EPROTO);
			return;
		}
		http_reply_write(p->x, data, len);
	}
	response_settle(p);
}

/* Return: what reading did, as in a uv_read_cb. */
static ssize_t response_splice(struct proxy_conn *p)
{
	ssize_t n = http_reply_splice(p->x, p->up, p->body.left);

	if (n > 0)
		http_body_skip(&p->body, (uint64_t)n);
	return n;
}

static void response_start(struct proxy_conn *p, const struct http_head *h)
{
	struct http_field fields[PROXY_FIELDS_MAX] = { 0 };

	proxy_response_fields(fields, h, p->spec.reply_fields);
	http_body_init(&p->body, h);
	p->state = PROXY_BODY;
	if (p->spec.group->on_drained != NULL && !proxy_end_in_sight(p)) {
		http_exchange_abort(p->x);
		return;
	}
	http_reply_start(p->x, h->status, fields, proxy_response_length(h));
}

static void on_tunnel_end(void *arg)
{
	struct proxy_conn *p = arg;

	p->tunnel = NULL;
	proxy_over(p);
}

/* Both streams leave HTTP, with what was received early. */
static void tunnel_open(struct proxy_conn *p, const struct http_field *fields)
{
	uv_timer_stop(&p->timer);
	uv_read_stop(p->up);
	http_output_detach(&p->out);
	p->tunnel = tunnel_switch(p->x, fields, p->up, on_tunnel_end, p);
	if (p->tunnel == NULL) {
		upstream_broken(p, EPROTO);
		return;
	}
	p->x = NULL;
	p->up = NULL;
	p->state = PROXY_TUNNEL;
	tunnel_send(p->tunnel, buf_str(&p->in), p->in.len);
	tunnel_start(p->tunnel);
}

static void tunnel_open_raw(struct proxy_conn *p)
{
	const struct http_field fields[] = { { "Connection", "Upgrade" },
					     { "Upgrade", p->spec.raw_protocol },
					     { NULL, NULL } };

	tunnel_open(p, fields);
}

/* The upstream switches protocols. */
static void response_switch(struct proxy_conn *p, const struct http_head *h)
{
	bool asked = http_exchange_head(p->x)->upgrade;
	bool sent = p->request_done && http_output_queued(&p->out) == 0;

	struct http_field fields[PROXY_FIELDS_MAX] = { 0 };

	if (!h->upgrade || !asked || !sent) {
		upstream_broken(p, EPROTO);
		return;
	}
	proxy_switch_fields(fields, h);
	tunnel_open(p, fields);
}

/* The upstream is reached, and has the head of the request. */
static void request_go_on(struct proxy_conn *p)
{
	uv_timer_stop(&p->timer);
	p->state = PROXY_HEAD;
	http_body_stream(p->x);
}

/* What was asked for the detour has answered. */
static void detour_answered(struct proxy_conn *p, const struct http_head *h)
{
	auto_buf head = BUF_INIT(2 * HTTP_HEAD_MAX);
	uv_buf_t b;

	if (!h->upgrade || h->status != 101) {
		proxy_fail(p, h->status == 503 ? EBUSY : ECONNREFUSED);
		return;
	}
	if (p->spec.raw_protocol != NULL) {
		tunnel_open_raw(p);
		return;
	}
	if (proxy_request_write(&head, http_exchange_head(p->x), &p->spec) < 0) {
		proxy_fail(p, EPROTO);
		return;
	}
	b = uv_buf_init(buf_head(&head), (unsigned)head.len);
	http_output_send(&p->out, &b, 1);
	request_go_on(p);
}

/* Return: whether to go on with what follows the head. */
static bool response_head(struct proxy_conn *p)
{
	bool detour = p->state == PROXY_DETOUR;
	const char *method = detour ? "GET" : http_exchange_head(p->x)->method;
	struct http_head h = { 0 };
	bool again = false;
	int r;

	r = http_head_parse_response(&p->in, method, &h, NULL);
	if (r < 0)
		upstream_broken(p, EPROTO);
	if (r <= 0)
		return false;
	if (detour)
		detour_answered(p, &h);
	else if (h.status == 101)
		response_switch(p, &h);
	else if (h.status >= 200)
		response_start(p, &h);
	else
		again = true; /* a hint such as 100 or 103, which nobody has to have */
	http_head_done(&h);
	return again || p->state == PROXY_BODY || (detour && p->state == PROXY_HEAD);
}

static void response_head_data(struct proxy_conn *p, const char *in, size_t n)
{
	if (buf_append(&p->in, in, n) < 0) {
		upstream_broken(p, EPROTO);
		return;
	}
	while (p->state <= PROXY_HEAD) {
		if (!response_head(p))
			return;
	}
	response_body(p, buf_str(&p->in), p->in.len);
	buf_done(&p->in);
}

/* Whether the end of the stream is that of the response. A reset that a write has met reads as an
 * end. */
static bool ends_response(const struct proxy_conn *p)
{
	return p->state == PROXY_BODY && p->body.kind == HTTP_BODY_EOF && p->out.error == 0;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
	struct proxy_conn *p = stream->data;
	bool spliced = http_splice_ready(n, b);

	if (spliced)
		n = response_splice(p);
	if (n == UV_EOF && ends_response(p))
		reply_end(p);
	else if (n < 0)
		upstream_broken(p, n == UV_EOF ? ECONNRESET : (int)-n);
	else if (spliced)
		response_settle(p);
	else if (n > 0 && p->state <= PROXY_HEAD)
		response_head_data(p, b->base, (size_t)n);
	else if (n > 0)
		response_body(p, b->base, (size_t)n);
}

static void on_timer(uv_timer_t *timer)
{
	struct proxy_conn *p = timer->data;

	proxy_fail(p, p->connect_error ?: ETIMEDOUT);
}

static void on_connect(uv_connect_t *req, int status);

/* Starts connecting, with the head of a request queued behind it. Return: 0; -errno. */
static int upstream_connect(struct proxy_conn *p, const struct sockaddr_in *addr, struct buf *head)
{
	uv_tcp_t *tcp = xcalloc(1, sizeof(*tcp));
	uv_buf_t b;
	int r;

	uv_tcp_init(p->timer.loop, tcp);
	uv_tcp_nodelay(tcp, 1);
	tcp->data = p;
	p->up = (uv_stream_t *)tcp;
	http_output_init(&p->out, p->up, on_progress);
	p->connect = xcalloc(1, sizeof(*p->connect));
	p->connect->conn = p;
	r = uv_tcp_connect(&p->connect->req, tcp, (const struct sockaddr *)addr, on_connect);
	if (r < 0) {
		free(take_ptr(&p->connect));
		return r;
	}
	b = uv_buf_init(buf_head(head), (unsigned)head->len);
	if (head->len > 0)
		http_output_send(&p->out, &b, 1);
	return 0;
}

static void timer_start(struct proxy_conn *p)
{
	uint64_t timeout_ms = p->spec.connect_timeout_ms ?: CONNECT_TIMEOUT_MS;

	uv_timer_start(&p->timer, on_timer, p->connect_error != 0 ? 0 : timeout_ms, 0);
}

static void detour_begin(struct proxy_conn *p)
{
	const struct proxy_detour *detour = p->spec.detour;
	auto_buf head = BUF_INIT(HTTP_HEAD_MAX);
	int r;

	upstream_close(p, false);
	p->state = PROXY_DETOUR;
	r = http_write_request(&head, "GET", detour->target, detour->fields);
	if (r == 0)
		r = upstream_connect(p, &detour->addr, &head);
	if (r < 0)
		proxy_fail(p, -r);
	else
		timer_start(p);
}

static void on_connect(uv_connect_t *req, int status)
{
	struct proxy_connect *connect = container_of(req, struct proxy_connect, req);
	struct proxy_conn *p = connect->conn;

	free(connect);
	if (p == NULL)
		return;
	p->connect = NULL;
	if (status == UV_ECONNREFUSED && p->state == PROXY_CONNECTING && p->spec.detour != NULL) {
		detour_begin(p);
		return;
	}
	if (status < 0) {
		proxy_fail(p, -status);
		return;
	}
	if (p->state == PROXY_CONNECTING && p->spec.raw_protocol != NULL) {
		tunnel_open_raw(p);
		return;
	}
	if (p->state == PROXY_CONNECTING)
		request_go_on(p);
	upstream_set_reading(p, true);
}

static int request_begin(struct proxy_conn *p)
{
	auto_buf head = BUF_INIT(2 * HTTP_HEAD_MAX);
	int r = 0;

	if (p->spec.raw_protocol == NULL)
		r = proxy_request_write(&head, http_exchange_head(p->x), &p->spec);
	return r < 0 ? r : upstream_connect(p, &p->spec.addr, &head);
}

void proxy_start(uv_loop_t *loop, struct http_exchange *x, const struct proxy_spec *spec)
{
	const struct http_head *h = http_exchange_head(x);
	struct proxy_conn *p = xcalloc(1, sizeof(*p));

	p->spec = *spec;
	p->x = x;
	p->rbuf = http_rbuf_ref(http_exchange_rbuf(x));
	p->chunked = h->body == HTTP_BODY_CHUNKED;
	p->request_done = h->body == HTTP_BODY_NONE;
	buf_init(&p->in, HTTP_HEAD_MAX + HTTP_READ_BYTES);
	proxy_group_add(spec->group, p);
	uv_timer_init(loop, &p->timer);
	p->timer.data = p;
	http_exchange_bind(x, &proxy_events, p);

	p->connect_error = -request_begin(p);
	timer_start(p);
}

void proxy_abort(struct proxy_conn *p, int code)
{
	if (p->state == PROXY_TUNNEL) {
		tunnel_abort(take_ptr(&p->tunnel));
		proxy_over(p);
	} else if (p->state == PROXY_ENDING) {
		proxy_group_remove(p); /* the client gets what it has not read yet */
	} else if (code != 0) {
		upstream_broken(p, code);
	} else {
		http_exchange_abort(p->x); /* the rest follows from its on_close */
	}
}
