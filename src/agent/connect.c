/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A call belongs to its HTTP exchange and lives until that has closed. The
 * server may close an exchange inside any call into it, so functions here that call it more than
 * once hold the call meanwhile (refs), and look whether the exchange is still there (x != NULL).
 *
 * A unary reply carries its error in the HTTP status; a stream is always 200, its error is in the
 * envelope that ends it. Calls that never came so far as to have a content type that we know get a
 * plain 415. One timer per call serves both the deadline and the keep-alives, and exists only when
 * there is one of them: idle connections cost no wake-ups.
 */
#include "agent/connect.h"

#include "agent/agent.h"
#include "agent/handle.h"
#include "base/clock.h"
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

static const char unary_type[] = "application/json";
static const char stream_type[] = "application/connect+json";

struct connect_call {
	struct agent *agent;
	const struct connect_method *method;
	struct http_exchange *x; /* NULL = closed */
	unsigned refs;
	const struct connect_events *events; /* NULL = nobody is told */
	void *arg;
	struct envelope_reader reader; /* of a unary call only the message is used */
	bool begun;                    /* the method has the call */
	bool answered;                 /* the method is done with the call */
	uint64_t timeout_ms;
	uint64_t deadline_ns;  /* 0 = none */
	uint64_t keepalive_ns; /* when the next one is due; 0 = never */
	uint64_t keepalive_ms;
	uv_timer_t *timer;
};

static void call_unref(struct connect_call *c)
{
	if (--c->refs > 0)
		return;
	envelope_reader_done(&c->reader);
	free(c);
}

/* The owner of the call hears of it no more. */
static void call_settle(struct connect_call *c)
{
	c->answered = true;
	c->events = NULL;
	handle_timer_free(&c->timer);
}

static void tell_gone(struct connect_call *c)
{
	const struct connect_events *events = c->events;

	c->events = NULL;
	if (events != NULL)
		events->on_gone(c->arg);
}

void connect_bind(struct connect_call *c, const struct connect_events *events, void *arg)
{
	c->events = events;
	c->arg = arg;
}

const char *connect_header(const struct connect_call *c, const char *name)
{
	return http_head_get(http_exchange_head(c->x), name);
}

uint64_t connect_timeout_ms(const struct connect_call *c)
{
	return c->timeout_ms;
}

bool connect_blocked(const struct connect_call *c)
{
	return c->x != NULL && http_reply_blocked(c->x);
}

void connect_abort(struct connect_call *c)
{
	call_settle(c);
	if (c->x != NULL)
		http_exchange_abort(c->x);
}

static void reply_text(struct connect_call *c, int status, json_t *message)
{
	auto_free char *text = json_dumps(message, JSON_COMPACT);

	json_decref(message);
	if (text == NULL)
		http_exchange_abort(c->x);
	else
		http_reply(c->x, status, NULL, unary_type, text, strlen(text));
}

void connect_reply_text(struct connect_call *c, const char *text, size_t n)
{
	call_settle(c);
	if (c->x != NULL)
		http_reply(c->x, 200, NULL, unary_type, text, n);
}

static void send_envelope(struct connect_call *c, uint8_t flags, const char *text, size_t n)
{
	static const struct http_field fields[] = { { "Content-Type", stream_type },
						    { "Cache-Control", "no-store" },
						    { NULL, NULL } };
	auto_buf out = BUF_INIT(ENVELOPE_HEAD_SIZE + n);
	uint8_t head[ENVELOPE_HEAD_SIZE];

	envelope_head(head, flags, (uint32_t)n);
	c->refs++;
	if (c->x != NULL && !http_reply_started(c->x))
		http_reply_start(c->x, 200, fields, -1);
	/* In one piece, so that an envelope is one chunk and one write. */
	if (buf_append(&out, head, sizeof(head)) < 0 || buf_append(&out, text, n) < 0) {
		if (c->x != NULL)
			http_exchange_abort(c->x);
	} else if (c->x != NULL) {
		http_reply_write(c->x, buf_head(&out), out.len);
	}
	call_unref(c);
}

void connect_send(struct connect_call *c, const char *text, size_t n)
{
	send_envelope(c, 0, text, n);
}

void connect_send_json(struct connect_call *c, json_t *message)
{
	auto_free char *text = json_dumps(message, JSON_COMPACT);

	json_decref(message);
	if (text != NULL)
		connect_send(c, text, strlen(text));
	else if (c->x != NULL)
		http_exchange_abort(c->x);
}

static void end_stream(struct connect_call *c, const char *text)
{
	c->refs++;
	call_settle(c);
	send_envelope(c, ENVELOPE_END, text, strlen(text));
	if (c->x != NULL)
		http_reply_end(c->x);
	call_unref(c);
}

void connect_end(struct connect_call *c)
{
	end_stream(c, "{}");
}

void connect_reply(struct connect_call *c, json_t *message)
{
	call_settle(c);
	if (c->method->stream) {
		c->refs++;
		connect_send_json(c, message);
		connect_end(c);
		call_unref(c);
		return;
	}
	if (c->x == NULL)
		json_decref(message);
	else
		reply_text(c, 200, message);
}

void connect_pause(struct connect_call *c, bool pause)
{
	if (c->x != NULL)
		http_body_pause(c->x, pause);
}

void connect_fail(struct connect_call *c, const struct connect_error *e)
{
	auto_free char *text = NULL;
	json_t *end;

	if (!c->method->stream) {
		call_settle(c);
		if (c->x != NULL)
			reply_text(c, connect_code_http(e->code), connect_error_json(e));
		return;
	}
	end = json_pack("{s:o}", "error", connect_error_json(e));
	text = json_dumps(end, JSON_COMPACT);
	json_decref(end);
	end_stream(c, text != NULL ? text : "{\"error\":{\"code\":\"resource_exhausted\"}}");
}

void connect_failf(struct connect_call *c, enum connect_code code, const char *fmt, ...)
{
	struct connect_error e = { .code = code };
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(e.msg, sizeof(e.msg), fmt, ap);
	va_end(ap);
	connect_fail(c, &e);
}

static void arm(struct connect_call *c);

static void on_timer(uv_timer_t *timer)
{
	struct connect_call *c = timer->data;
	uint64_t now = clock_now_ns();

	c->refs++;
	if (c->deadline_ns != 0 && now >= c->deadline_ns) {
		tell_gone(c);
		connect_failf(c, CONNECT_DEADLINE_EXCEEDED, "%s took longer than %llu ms",
			      c->method->name, (unsigned long long)c->timeout_ms);
	} else if (c->keepalive_ns != 0 && now >= c->keepalive_ns) {
		c->keepalive_ns = now + c->keepalive_ms * NS_PER_MS;
		/* A client that is behind has data under way, which serves as well. */
		if (!connect_blocked(c))
			connect_send(c, c->method->keepalive, strlen(c->method->keepalive));
	}
	if (c->timer != NULL)
		arm(c);
	call_unref(c);
}

/* Sets the timer to whichever comes first. */
static void arm(struct connect_call *c)
{
	uint64_t due = c->deadline_ns;
	uint64_t now = clock_now_ns();

	if (due == 0 || (c->keepalive_ns != 0 && c->keepalive_ns < due))
		due = c->keepalive_ns;
	uv_update_time(&c->agent->loop);
	/* libuv counts whole milliseconds: rounded up, or it would fire before the time. */
	ignore_err(uv_timer_start(c->timer, on_timer,
				  due > now ? (due - now + NS_PER_MS - 1) / NS_PER_MS : 0,
				  0)); /* the callback is there, the handle is not closing */
}

static void start_timer(struct connect_call *c)
{
	if (c->timeout_ms != 0 && !c->method->own_deadline)
		c->deadline_ns = clock_now_ns() + c->timeout_ms * NS_PER_MS;
	if (c->method->keepalive != NULL) {
		c->keepalive_ms =
			connect_keepalive_ms(connect_header(c, "Keepalive-Ping-Interval"));
		c->keepalive_ns = clock_now_ns() + c->keepalive_ms * NS_PER_MS;
	}
	if (c->deadline_ns == 0 && c->keepalive_ns == 0)
		return;
	c->timer = handle_timer_new(&c->agent->loop, c);
	arm(c);
}

/* Whether the owner of the call does without the parser. */
static bool deliver_text(struct connect_call *c)
{
	struct buf *text = &c->reader.message;

	return c->begun && c->events->on_text != NULL &&
	       c->events->on_text(c->arg, buf_str(text), text->len);
}

/* Gives a message to the method, or to whom it gave the call. */
static void deliver(struct connect_call *c, const json_t *message)
{
	if (c->begun) {
		c->events->on_message(c->arg, message);
		return;
	}
	c->begun = true;
	c->method->fn(c->agent, c, message);
}

static void fail_request(struct connect_call *c, const struct connect_error *e)
{
	tell_gone(c);
	connect_fail(c, e);
}

/* Bytes of a client stream, which may hold several messages; any may end the call. */
static void take_messages(struct connect_call *c, const char *p, size_t n)
{
	struct connect_error e = { 0 };

	c->refs++;
	while (n > 0 && !c->answered) {
		json_t *message = NULL;
		size_t used = 0;
		int r = envelope_take(&c->reader, p, n, &used, &e);

		p += used;
		n -= used;
		if (r > 0 && deliver_text(c)) {
			envelope_next(&c->reader);
			continue;
		}
		if (r > 0)
			r = connect_message_parse(buf_str(&c->reader.message),
						  c->reader.message.len, &message, &e);
		if (r < 0) {
			fail_request(c, &e);
			break;
		}
		if (message == NULL)
			continue;
		envelope_next(&c->reader);
		deliver(c, message);
		json_decref(message);
	}
	call_unref(c);
}

static void end_messages(struct connect_call *c)
{
	struct connect_error e = { 0 };

	if (c->begun && c->reader.n_head == 0)
		c->events->on_end(c->arg);
	else if (envelope_finish(&c->reader, &e) < 0)
		fail_request(c, &e);
}

static void on_data(struct http_exchange *x, const char *p, size_t n, void *arg)
{
	struct connect_call *c = arg;
	struct connect_error e = { 0 };

	(void)x;
	if (c->answered)
		return;
	if (c->method->client_stream) {
		take_messages(c, p, n);
		return;
	}
	if (c->method->stream) {
		if (envelope_feed(&c->reader, p, n, &e) < 0)
			connect_fail(c, &e);
		return;
	}
	if (buf_append(&c->reader.message, p, n) < 0)
		connect_failf(c, CONNECT_RESOURCE_EXHAUSTED, "message is larger than %d bytes",
			      CONNECT_MESSAGE_MAX);
}

static void on_end(struct http_exchange *x, void *arg)
{
	struct connect_call *c = arg;
	struct connect_error e = { 0 };
	json_t *request = NULL;

	(void)x;
	if (c->answered)
		return;
	if (c->method->client_stream) {
		end_messages(c);
		return;
	}
	if ((c->method->stream && envelope_finish(&c->reader, &e) < 0) ||
	    connect_message_parse(buf_str(&c->reader.message), c->reader.message.len, &request,
				  &e) < 0) {
		connect_fail(c, &e);
		return;
	}
	envelope_reader_done(&c->reader);
	start_timer(c);
	deliver(c, request);
	json_decref(request);
}

static void on_drain(struct http_exchange *x, void *arg)
{
	struct connect_call *c = arg;

	(void)x;
	if (c->events != NULL && c->events->on_drain != NULL)
		c->events->on_drain(c->arg);
}

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	struct connect_call *c = arg;

	(void)x;
	(void)complete;
	c->x = NULL;
	c->answered = true;
	handle_timer_free(&c->timer);
	tell_gone(c);
	call_unref(c);
}

static const struct http_exchange_events exchange_events = {
	.on_data = on_data,
	.on_end = on_end,
	.on_drain = on_drain,
	.on_close = on_close,
};

static int check_head(struct connect_call *c, struct connect_error *e)
{
	const char *encoding_name =
		c->method->stream ? "Connect-Content-Encoding" : "Content-Encoding";
	const char *encoding = connect_header(c, encoding_name);
	const char *version = connect_header(c, "Connect-Protocol-Version");

	if (version != NULL && !streq(version, "1"))
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "Connect-Protocol-Version must be 1, not '%.64s'",
					 version);
	if (encoding != NULL && strcasecmp(encoding, "identity") != 0)
		return connect_error_set(e, CONNECT_UNIMPLEMENTED,
					 "unknown compression '%.64s': supported is identity",
					 encoding);
	return connect_timeout_parse(connect_header(c, "Connect-Timeout-Ms"), &c->timeout_ms, e);
}

static const struct connect_method *find_method(const struct connect_method *methods, size_t n,
						const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (streq(methods[i].name, name))
			return &methods[i];
	return NULL;
}

static void reply_unknown(struct http_exchange *x, const char *name)
{
	auto_free char *text = NULL;
	struct connect_error e = { 0 };
	json_t *json;

	ignore_err(connect_error_set(&e, CONNECT_UNIMPLEMENTED, "unknown method '%.128s'", name));
	json = connect_error_json(&e);
	text = json_dumps(json, JSON_COMPACT);
	json_decref(json);
	/* Not the code's 501: the protocol reserves 404 for procedures that do not exist. */
	http_reply(x, 404, NULL, unary_type, text, text != NULL ? strlen(text) : 0);
}

static void reply_bad_type(struct http_exchange *x, const char *type)
{
	const struct http_field fields[] = { { "Accept-Post", type }, { NULL, NULL } };
	char text[128];

	snprintf(text, sizeof(text), "{\"code\":415,\"message\":\"Content-Type must be %s\"}",
		 type);
	http_reply(x, 415, fields, unary_type, text, strlen(text));
}

void connect_serve(struct agent *a, struct http_exchange *x, const struct connect_method *methods,
		   size_t n, const char *name)
{
	const struct connect_method *method = find_method(methods, n, name);
	const char *content_type = http_head_get(http_exchange_head(x), "Content-Type");
	struct connect_error e = { 0 };
	struct connect_call *c;
	const char *type;

	if (method == NULL) {
		reply_unknown(x, name);
		return;
	}
	type = method->stream ? stream_type : unary_type;
	if (!connect_content_type_is(content_type, type)) {
		reply_bad_type(x, type);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	*c = (struct connect_call){
		.agent = a, .method = method, .x = x, .refs = 1, .reader = ENVELOPE_READER_INIT
	};
	http_exchange_bind(x, &exchange_events, c);
	if (check_head(c, &e) < 0) {
		connect_fail(c, &e);
		return;
	}
	if (method->client_stream)
		start_timer(c);
	http_body_stream(x);
}
