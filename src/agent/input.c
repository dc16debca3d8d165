/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/input.h"

#include "agent/field.h"
#include "agent/handle.h"
#include "base/base64.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

/* How many bytes of a stream wait before its body is read no further, and when it is again. */
enum { STREAM_HIGH_BYTES = 256 << 10, STREAM_LOW_BYTES = 64 << 10 };

/* A client stream. Its call is answered when it has ended and nothing of it waits. */
struct input_stream {
	struct input_stream *next;
	struct input *input;
	struct connect_call *call;
	size_t waiting_bytes;
	bool paused;
	bool ended;
};

/* Bytes to be written, of a call or of a stream, or of nobody who would hear of it. */
struct input_item {
	struct input_item *next;
	struct input *input;
	struct connect_call *call;
	struct input_stream *stream;
	char *data; /* owned; NULL = close the pipe */
	size_t n;
	size_t off; /* written */
};

static const char no_stdin[] = "the process has no open stdin";
static const char no_pty[] = "the process has no pty";
static const char has_pty[] = "the process has a pty: its input goes to field 'pty', and the "
			      "character 0x04 is its end";

static void item_free(struct input_item *item)
{
	free(item->data);
	free(item);
}

static void item_unlink(struct input_item *item)
{
	struct input *in = item->input;
	struct input_item **at = &in->first;

	while (*at != item)
		at = &(*at)->next;
	*at = item->next;
	if (in->tail == &item->next)
		in->tail = at;
}

/* The client left. What the process has seen a part of it sees whole; the rest is dropped, so that
 * no more memory waits here than clients wait. */
static void item_abandon(struct input_item *item)
{
	item->call = NULL;
	item->stream = NULL;
	if (item->off > 0)
		return;
	item_unlink(item);
	item_free(item);
}

static void on_item_gone(void *arg)
{
	item_abandon(arg);
}

static const struct connect_events item_events = { .on_gone = on_item_gone };

static void stream_free(struct input_stream *s)
{
	struct input_stream **at = &s->input->streams;
	struct input_item *next;

	for (struct input_item *item = s->input->first; item != NULL; item = next) {
		next = item->next;
		if (item->stream == s)
			item_abandon(item);
	}
	while (*at != s)
		at = &(*at)->next;
	*at = s->next;
	free(s);
}

static void stream_fail(struct input_stream *s, const char *why)
{
	struct connect_call *c = s->call;

	stream_free(s);
	connect_failf(c, CONNECT_FAILED_PRECONDITION, "%s", why);
}

/* Answers a stream of which everything was written. */
static void stream_finish(struct input_stream *s)
{
	struct connect_call *c = s->call;

	if (!s->ended || s->waiting_bytes > 0)
		return;
	stream_free(s);
	connect_reply(c, json_object());
}

static void stream_set_paused(struct input_stream *s, bool paused)
{
	if (s->paused == paused)
		return;
	s->paused = paused;
	connect_pause(s->call, paused);
}

static void stream_written(struct input_stream *s, size_t n)
{
	s->waiting_bytes -= n;
	if (s->waiting_bytes < STREAM_LOW_BYTES)
		stream_set_paused(s, false);
	stream_finish(s);
}

/* Tells whoever gave the bytes; @why: they were not written. */
static void item_finish(struct input_item *item, const char *why)
{
	struct connect_call *c = item->call;
	struct input_stream *s = item->stream;
	size_t n = item->n;

	item_unlink(item);
	item_free(item);
	if (c != NULL && why == NULL)
		connect_reply(c, json_object());
	else if (c != NULL)
		connect_failf(c, CONNECT_FAILED_PRECONDITION, "%s", why);
	else if (s != NULL && why == NULL)
		stream_written(s, n);
	else if (s != NULL)
		stream_fail(s, why);
}

static const char *closed_text(const struct input *in)
{
	return in->pty ? "the process has closed its terminal" : no_stdin;
}

static void pipe_close(struct input *in)
{
	handle_poll_free(&in->poll);
	fd_close(&in->fd);
	in->waiting = false;
}

/* Writes what goes into the pipe. Return: 0 the item is done; -EAGAIN; -errno. */
static int item_write(struct input_item *item)
{
	while (item->off < item->n) {
		ssize_t n = write(item->input->fd, item->data + item->off, item->n - item->off);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		item->off += (size_t)n;
	}
	return 0;
}

static void input_run(struct input *in);

static void on_writable(uv_poll_t *poll, int status, int events)
{
	(void)status; /* an error shows in the write */
	(void)events;
	input_run(poll->data);
}

static void set_waiting(struct input *in, bool on)
{
	int r;

	if (in->poll == NULL || in->waiting == on)
		return;
	r = on ? uv_poll_start(in->poll, UV_WRITABLE, on_writable) : uv_poll_stop(in->poll);
	assert(r == 0); /* the handle is open and its descriptor ours */
	in->waiting = on;
}

static void input_run(struct input *in)
{
	while (in->first != NULL) {
		struct input_item *item = in->first;
		int r;

		if (in->fd < 0) {
			item_finish(item, closed_text(in));
			continue;
		}
		r = item_write(item);
		if (r == -EAGAIN) {
			set_waiting(in, true);
			return;
		}
		if (r < 0 || item->data == NULL)
			pipe_close(in);
		item_finish(item, r < 0 ? "the process has closed its stdin" : NULL);
	}
	set_waiting(in, false);
}

static void item_push(struct input *in, const struct input_item *from)
{
	struct input_item *item = xcalloc(1, sizeof(*item));

	*item = *from;
	item->input = in;
	if (item->call != NULL)
		connect_bind(item->call, &item_events, item);
	*in->tail = item;
	in->tail = &item->next;
	if (in->first == item)
		input_run(in);
}

/* Reads what is to be written out of a field "input". Return: 0; -EPROTO with @e set. */
static int read_input(const struct input *in, const json_t *message, struct input_item *out,
		      struct connect_error *e)
{
	const char *name = in->pty ? "pty" : "stdin";
	json_t *input = NULL;
	int r = field_object(message, "input", &input, e);

	if (r == 0)
		r = field_bytes(input, name, &out->data, &out->n, e);
	if (r != 0)
		return MIN(r, 0);
	if (field_get(input, in->pty ? "stdin" : "pty") != NULL)
		return connect_error_set(e, CONNECT_FAILED_PRECONDITION, "%s",
					 in->pty ? has_pty : no_pty);
	return connect_error_set(e, CONNECT_INVALID_ARGUMENT, "field 'input' needs %s", name);
}

int input_init(struct input *in, uv_loop_t *loop, int *fd, bool pty)
{
	int r;

	*in = (struct input){ .fd = -1, .pty = pty };
	in->tail = &in->first;
	if (*fd < 0)
		return 0;
	r = handle_poll_new(loop, *fd, in, &in->poll);
	if (r < 0)
		return r;
	in->fd = take_fd(fd);
	return 0;
}

void input_done(struct input *in, const char *why)
{
	if (in->tail == NULL)
		return;
	pipe_close(in);
	while (in->first != NULL)
		item_finish(in->first, why);
	while (in->streams != NULL)
		stream_fail(in->streams, why);
}

void input_send(struct input *in, struct connect_call *c, const json_t *request)
{
	struct connect_error e = { 0 };
	struct input_item item = { .call = c };

	if (read_input(in, request, &item, &e) < 0)
		connect_fail(c, &e);
	else
		item_push(in, &item);
}

static void stream_push(struct input_stream *s, const struct input_item *item)
{
	if (item->n == 0) {
		free(item->data);
		return;
	}
	s->waiting_bytes += item->n;
	if (s->waiting_bytes > STREAM_HIGH_BYTES)
		stream_set_paused(s, true);
	item_push(s->input, item);
}

/*
 * Data as all programs write it, without blanks: the JSON parser costs six times what the rest
 * does. Between these two there is nothing but the string if it is base64. What is not is left to
 * the parser, which can say why.
 */
static bool on_stream_text(void *arg, const char *text, size_t n)
{
	static const char head_stdin[] = "{\"data\":{\"input\":{\"stdin\":\"";
	static const char head_pty[] = "{\"data\":{\"input\":{\"pty\":\"";
	static const char tail[] = "\"}}}";
	struct input_stream *s = arg;
	const char *head = s->input->pty ? head_pty : head_stdin;
	size_t n_head = strlen(head);
	size_t n_tail = strlen(tail);
	struct input_item item = { .stream = s };

	if (n < n_head + n_tail || memcmp(text, head, n_head) != 0 ||
	    memcmp(text + n - n_tail, tail, n_tail) != 0 ||
	    base64_decode(text + n_head, n - n_head - n_tail, &item.data, &item.n) < 0)
		return false;
	stream_push(s, &item);
	return true;
}

/* A message of a stream: {"data": {"input": …}} or {"keepalive": {}}. */
static void on_stream_message(void *arg, const json_t *message)
{
	struct input_stream *s = arg;
	struct input_item item = { .stream = s };
	struct connect_error e = { 0 };
	struct connect_call *c = s->call;
	json_t *data = NULL;
	int r = field_object(message, "data", &data, &e);

	if (r == 0 && data == NULL)
		return;
	if (r == 0)
		r = read_input(s->input, data, &item, &e);
	if (r < 0) {
		stream_free(s);
		connect_fail(c, &e);
		return;
	}
	stream_push(s, &item);
}

static void on_stream_end(void *arg)
{
	struct input_stream *s = arg;

	s->ended = true;
	stream_finish(s);
}

static void on_stream_gone(void *arg)
{
	stream_free(arg);
}

static const struct connect_events stream_events = {
	.on_text = on_stream_text,
	.on_message = on_stream_message,
	.on_end = on_stream_end,
	.on_gone = on_stream_gone,
};

void input_stream(struct input *in, struct connect_call *c)
{
	struct input_stream *s;

	if (in->fd < 0) {
		connect_failf(c, CONNECT_FAILED_PRECONDITION, "%s", closed_text(in));
		return;
	}
	s = xcalloc(1, sizeof(*s));
	*s = (struct input_stream){ .next = in->streams, .input = in, .call = c };
	in->streams = s;
	connect_bind(c, &stream_events, s);
}

void input_give(struct input *in, char *data, size_t n)
{
	if (n > 0)
		item_push(in, &(struct input_item){ .data = data, .n = n });
	else
		free(data);
	item_push(in, &(struct input_item){ 0 });
}

void input_close(struct input *in, struct connect_call *c)
{
	if (in->pty || in->fd < 0)
		connect_failf(c, CONNECT_FAILED_PRECONDITION, "%s", in->pty ? has_pty : no_stdin);
	else
		item_push(in, &(struct input_item){ .call = c });
}
