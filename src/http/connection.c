/* SPDX-License-Identifier: Apache-2.0 */
#include "http/server-internal.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

/* Reading goes on while less than a head's size waits, and one read adds at most a read buffer. */
enum { IN_LIMIT = HTTP_HEAD_MAX, IN_MAX = IN_LIMIT + HTTP_READ_BYTES };
/* What is read behind a pause of a body that is not to be copied. */
enum { PEEK_BYTES = 4096 };
enum { KEEPALIVE_S = 60 };
static_assert((int)IN_MAX <= (int)HTTP_EARLY_MAX, "a take must fit");

static void conn_closed(uv_handle_t *h)
{
	struct http_conn *c = h->data;

	buf_done(&c->in);
	server_unref(c->server);
	free(c);
}

static void conn_unready(struct http_conn *c)
{
	if (c->link_ready == NULL)
		return;
	*c->link_ready = c->next_ready;
	if (c->next_ready != NULL)
		c->next_ready->link_ready = c->link_ready;
	c->link_ready = NULL;
}

void conn_close(struct http_conn *c, bool reset)
{
	if (c->state == CONN_CLOSED)
		return;
	c->state = CONN_CLOSED;
	*c->link = c->next;
	if (c->next != NULL)
		c->next->link = c->link;
	c->server->n_conns--;
	conn_unready(c);
	http_output_done(&c->out);
	if (c->stream != NULL && reset)
		http_stream_reset(c->stream);
	else if (c->stream != NULL)
		http_stream_close(c->stream);
	c->stream = NULL;
	uv_close((uv_handle_t *)&c->timer, conn_closed);
}

void conn_fail(struct http_conn *c)
{
	struct http_exchange *x = take_ptr(&c->x);

	conn_close(c, true);
	if (x != NULL)
		exchange_close(x, false);
}

static void ready_run(uv_idle_t *idle)
{
	struct http_server *s = idle->data;
	struct http_conn *batch = s->ready;

	/* whoever becomes ready meanwhile waits for the next turn of the loop */
	s->ready = NULL;
	if (batch != NULL)
		batch->link_ready = &batch;
	while (batch != NULL) {
		struct http_conn *c = batch;

		conn_unready(c);
		conn_run(c);
	}
	if (s->ready == NULL)
		uv_idle_stop(idle);
}

void conn_schedule(struct http_conn *c)
{
	struct http_server *s = c->server;

	if (c->running || c->state == CONN_CLOSED || c->link_ready != NULL)
		return;
	c->next_ready = s->ready;
	c->link_ready = &s->ready;
	if (s->ready != NULL)
		s->ready->link_ready = &c->next_ready;
	s->ready = c;
	uv_idle_start(&s->idle, ready_run);
}

static const char *input_peek(const struct http_conn *c, size_t *out_n)
{
	if (c->n_fresh > 0) {
		*out_n = c->n_fresh;
		return c->fresh;
	}
	*out_n = c->in.len;
	return c->in.len > 0 ? buf_head(&c->in) : NULL;
}

static void input_use(struct http_conn *c, size_t n)
{
	if (c->n_fresh == 0) {
		buf_consume(&c->in, n);
		return;
	}
	c->fresh += n;
	c->n_fresh -= n;
}

static void input_clear(struct http_conn *c)
{
	c->n_fresh = 0;
	buf_clear(&c->in);
}

/* Moves what is left of the server's read buffer into the connection's own. */
static void input_keep(struct http_conn *c)
{
	if (buf_append(&c->in, c->fresh, c->n_fresh) < 0)
		c->broken = true;
	c->n_fresh = 0;
}

void conn_take_input(struct http_conn *c, struct buf *early)
{
	size_t n;
	const char *p = input_peek(c, &n);
	int r = buf_append(early, p, n);

	assert(r == 0);
	input_clear(c);
}

static int malformed_status(int r)
{
	switch (r) {
	case -EMSGSIZE:
		return 431;
	case -EPROTONOSUPPORT:
		return 505;
	case -EOPNOTSUPP:
		return 501;
	case -ENOMEM:
		return 503;
	default:
		return 400;
	}
}

static void conn_open(struct http_conn *c, struct http_exchange *x)
{
	http_body_init(&c->body, &x->head);
	c->state = CONN_OPEN;
	c->timing = CONN_TIMER_NONE;
	c->drop_left = HTTP_DROP_MAX;
	c->close_after = !x->head.keep_alive;
	c->x = x;
}

bool conn_waits_for_write(const struct http_conn *c)
{
	return c->state == CONN_OPEN && c->server->config.write_timeout_ms != 0 &&
	       http_output_queued(&c->out) > 0;
}

/* Each step does one thing. Return: whether there may be more to do. */
static bool step_head(struct http_conn *c)
{
	const struct http_server_config *config = &c->server->config;
	struct err e = { 0 };
	struct http_exchange *x;
	int r;

	input_keep(c);
	if (c->in.len == 0)
		return false;
	x = exchange_new(c);
	r = http_head_parse_request(&c->in, &x->head, &e);
	if (r == 0) {
		exchange_free(x);
		return false;
	}
	if (r < 0) {
		x->head = (struct http_head){ .method = "", .target = "", .path = "", .query = "" };
		input_clear(c); /* where a next request would begin cannot be known */
		conn_open(c, x);
		exchange_refuse(x, malformed_status(r), e.msg);
		return true;
	}
	conn_open(c, x);
	if (x->head.minor >= 1 && http_head_get(&x->head, "Host") == NULL) {
		exchange_refuse(x, 400, "HTTP/1.1 request has no Host header");
		return true;
	}
	x->expect = !c->body.done && x->head.minor >= 1 &&
		    http_head_has_token(&x->head, "Expect", "100-continue");
	config->handler(x, config->arg);
	return true;
}

/* The end of an exchange whose reply is out: what happens to the connection. */
static void conn_complete(struct http_conn *c)
{
	struct http_exchange *x = take_ptr(&c->x);

	c->out.blocked = false;
	if (c->eof) {
		conn_close(c, false);
	} else if (c->close_after) {
		http_stream_shutdown(c->stream);
		c->state = CONN_LINGER;
	} else {
		c->state = c->body.done ? CONN_HEAD : CONN_DROP;
	}
	exchange_close(x, true);
}

/* Chunks that cannot be read: only who collects has left the answer to us. */
static void body_malformed(struct http_conn *c)
{
	struct http_exchange *x = c->x;

	input_clear(c);
	if (x == NULL || x->started || x->reader != READER_COLLECT)
		conn_fail(c);
	else
		exchange_refuse(x, 400, "the chunks of the body are malformed");
}

/*
 * Takes the next piece of the body off the input.
 * Return: 1 with payload or framing used up; 0 nothing is there; -errno malformed.
 */
static int body_take(struct http_conn *c, const char **out_data, size_t *out_len)
{
	const char *p;
	size_t used;
	size_t n;
	int r;

	p = input_peek(c, &n);
	if (c->body.done || n == 0)
		return 0;
	r = http_body_next(&c->body, p, n, &used, out_data, out_len);
	if (r < 0)
		return r;
	input_use(c, used);
	return used > 0;
}

static bool step_drop(struct http_conn *c)
{
	const char *data;
	size_t len;
	int r;

	r = body_take(c, &data, &len);
	if (r < 0) {
		input_clear(c);
		c->body.done = true; /* the reply is not to suffer from it */
		c->close_after = true;
		return true;
	}
	if (r == 0)
		return false;
	if (len > c->drop_left)
		c->close_after = true;
	c->drop_left -= MIN(len, c->drop_left);
	return true;
}

static bool step_body(struct http_conn *c)
{
	struct http_exchange *x = c->x;
	const char *data;
	size_t len;
	int r;

	if (x->reader == READER_NONE || x->paused || x->body_ended)
		return false;
	if (c->body.done) {
		exchange_body_end(x);
		return true;
	}
	r = body_take(c, &data, &len);
	if (r == 0)
		return false;
	if (r < 0)
		body_malformed(c);
	else if (len > 0)
		exchange_body_data(x, data, len);
	return true;
}

static bool step_open(struct http_conn *c)
{
	struct http_exchange *x = c->x;

	if (x->ended && http_output_queued(&c->out) == 0) {
		conn_complete(c);
		return true;
	}
	/* the peer may be unable to read the reply before it sent its body */
	if (x->ended)
		return step_drop(c);
	if (http_output_drained(&c->out)) {
		if (x->events->on_drain != NULL)
			x->events->on_drain(x, x->arg);
		return true;
	}
	return step_body(c);
}

static bool step_dropping(struct http_conn *c)
{
	bool more = step_drop(c);

	if (c->close_after) {
		http_stream_shutdown(c->stream);
		c->state = CONN_LINGER;
		return true;
	}
	if (c->body.done)
		c->state = CONN_HEAD;
	return more || c->body.done;
}

static bool conn_step(struct http_conn *c)
{
	if (c->state != CONN_CLOSED && (c->broken || c->out.error != 0)) {
		conn_fail(c);
		return false;
	}
	switch (c->state) {
	case CONN_HEAD:
		return step_head(c);
	case CONN_OPEN:
		return step_open(c);
	case CONN_DROP:
		return step_dropping(c);
	case CONN_LINGER:
		input_clear(c);
		return false;
	case CONN_CLOSED:
	default:
		return false;
	}
}

/* First our side is shut, which tells the peer that this is an orderly end; then all. */
static void on_timer(uv_timer_t *timer)
{
	struct http_conn *c = timer->data;

	if (c->state == CONN_LINGER) {
		conn_close(c, false);
		return;
	}
	http_stream_shutdown(c->stream);
	c->state = CONN_LINGER;
	conn_run(c);
}

/* Resets a peer that took nothing of its reply since the last look. */
static void on_write_timer(uv_timer_t *timer)
{
	struct http_conn *c = timer->data;
	uint64_t taken = http_output_taken(&c->out);

	if (taken == c->taken)
		conn_fail(c);
	c->taken = taken;
}

static void conn_arm_write(struct http_conn *c)
{
	unsigned ms = c->server->config.write_timeout_ms;

	if (c->timing == CONN_TIMER_WRITE)
		return;
	c->timing = CONN_TIMER_WRITE;
	c->taken = http_output_taken(&c->out);
	uv_timer_start(&c->timer, on_write_timer, ms, ms);
}

static void conn_arm(struct http_conn *c)
{
	const struct http_server_config *config = &c->server->config;
	enum conn_timer want = CONN_TIMER_NONE;
	unsigned ms = 0;

	if (conn_waits_for_write(c)) {
		conn_arm_write(c);
		return;
	}
	if (c->state == CONN_LINGER) {
		want = CONN_TIMER_LINGER;
		ms = HTTP_LINGER_MS;
	} else if (c->state == CONN_DROP || (c->state == CONN_HEAD && c->in.len > 0)) {
		want = CONN_TIMER_HEAD;
		ms = config->head_timeout_ms;
	} else if (c->state == CONN_HEAD) {
		want = CONN_TIMER_IDLE;
		ms = config->idle_timeout_ms;
	}
	if (want == CONN_TIMER_NONE)
		uv_timer_stop(&c->timer);
	else if (want != c->timing)
		uv_timer_start(&c->timer, on_timer, ms, 0);
	c->timing = want;
}

/* Where the body goes that need not be looked at; NULL: it is read. */
static struct http_output *conn_sink(const struct http_conn *c)
{
	struct http_exchange *x = c->x;

	if (c->state != CONN_OPEN || c->in.len > 0 || c->body.kind != HTTP_BODY_LENGTH ||
	    c->body.left < HTTP_SPLICE_MIN || x->reader != READER_STREAM || x->ended ||
	    x->events->sink == NULL)
		return NULL;
	return x->events->sink(x, x->arg);
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *out)
{
	struct http_conn *c = h->data;
	struct http_output *sink = conn_sink(c);

	(void)suggested;
	if (sink != NULL && c->x->paused)
		*out = uv_buf_init(c->server->rbuf->bytes, PEEK_BYTES);
	else if (sink != NULL && http_output_may_splice(sink, c->server->rbuf))
		*out = http_splice_alloc();
	else
		*out = uv_buf_init(c->server->rbuf->bytes, HTTP_READ_BYTES);
}

static void conn_eof(struct http_conn *c, bool clean)
{
	bool answered = c->x != NULL && c->x->ended;

	c->eof = true;
	c->reading = false;
	uv_read_stop(c->stream); /* libuv does so by itself at an end that it read */
	if (c->state != CONN_OPEN)
		conn_close(c, false);
	else if (!clean || !answered)
		conn_fail(c);
	/* else the reply still goes out to a peer that has only ended its own side */
}

/* Return: what reading did, as in a uv_read_cb. */
static ssize_t conn_splice(struct http_conn *c)
{
	struct http_output *sink = conn_sink(c);
	ssize_t n = http_output_splice(sink, c->stream, c->body.left);

	if (n > 0)
		http_body_skip(&c->body, (uint64_t)n);
	if (sink->blocked)
		c->x->paused = true;
	return n;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *b)
{
	struct http_conn *c = stream->data;
	bool spliced = http_splice_ready(n, b);

	if (spliced)
		n = conn_splice(c);
	if (n < 0)
		conn_eof(c, n == UV_EOF);
	if (n <= 0)
		return;
	if (spliced) {
		conn_run(c);
		return;
	}
	if (c->in.len == 0) {
		c->fresh = b->base;
		c->n_fresh = (size_t)n;
	} else if (buf_append(&c->in, b->base, (size_t)n) < 0) {
		c->broken = true;
	}
	conn_run(c);
}

static bool conn_wants_input(const struct http_conn *c)
{
	if (c->eof)
		return false;
	/* behind a pause one piece is read ahead: a peer that vanishes is to be noticed all the
	 * same */
	if (c->state == CONN_OPEN && c->x->paused && !c->x->ended && !c->body.done)
		return c->in.len == 0;
	return c->in.len < IN_LIMIT;
}

static void conn_set_reading(struct http_conn *c, bool want)
{
	if (want == c->reading)
		return;
	c->reading = want;
	if (!want)
		uv_read_stop(c->stream);
	else if (uv_read_start(c->stream, on_alloc, on_read) < 0)
		conn_fail(c);
}

void conn_run(struct http_conn *c)
{
	c->running = true;
	while (conn_step(c))
		;
	input_keep(c);
	c->running = false;
	if (c->state == CONN_CLOSED)
		return;
	if (c->in.len == 0)
		buf_done(&c->in); /* an idle connection holds no buffer */
	conn_arm(c);
	conn_set_reading(c, conn_wants_input(c));
}

static void on_progress(struct http_output *o)
{
	conn_run(container_of(o, struct http_conn, out));
}

void conn_new(struct http_server *s, uv_stream_t *stream)
{
	struct http_conn *c = xcalloc(1, sizeof(*c));

	c->server = s;
	s->refs++;
	s->n_conns++;
	c->next = s->conns;
	c->link = &s->conns;
	if (c->next != NULL)
		c->next->link = &c->next;
	s->conns = c;
	c->stream = stream;
	stream->data = c;
	buf_init(&c->in, IN_MAX);
	http_output_init(&c->out, stream, on_progress);
	uv_timer_init(s->loop, &c->timer);
	c->timer.data = c;
	if (stream->type == UV_TCP) {
		uv_tcp_nodelay((uv_tcp_t *)stream, 1);
		uv_tcp_keepalive((uv_tcp_t *)stream, 1, KEEPALIVE_S); /* a host that vanished */
	}
	conn_run(c);
}
