/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/output.h"

#include "agent/handle.h"
#include "base/base64.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	PIECE_BYTES = 32768,    /* of one data event */
	EVENT_EXTRA_BYTES = 96, /* what is around the base64 of one */
	STALL_MS = 30000,       /* how long a listener may block the process */
	PTY_HELD_BYTES = 65536, /* more than a terminal holds of what was written to it */
};

struct listener {
	struct listener *next;
	struct output *output;
	struct connect_call *call;
	struct ring_cursor cursor;
	uint64_t blocked_ns; /* since when; 0 = it is not */
	bool starter;
	bool end_only;
};

/* The loop is one thread, so one of each serves all processes. */
static uint8_t piece[PIECE_BYTES];
static char event[BASE64_ENCODED_LEN(PIECE_BYTES) + EVENT_EXTRA_BYTES];

static const char *const stream_names[] = {
	[OUTPUT_STDOUT] = "stdout",
	[OUTPUT_STDERR] = "stderr",
	[OUTPUT_PTY] = "pty",
};
static_assert(ARRAY_SIZE(stream_names) == OUTPUT_STREAM_N, "each stream has a name");

static void output_update(struct output *o);

static void listener_unlink(struct listener *l)
{
	struct listener **at = &l->output->listeners;

	while (*at != l)
		at = &(*at)->next;
	*at = l->next;
}

static void on_listener_drain(void *arg)
{
	struct listener *l = arg;

	l->blocked_ns = 0;
	output_update(l->output);
}

static void on_listener_gone(void *arg)
{
	struct listener *l = arg;
	struct output *o = l->output;

	listener_unlink(l);
	free(l);
	output_update(o);
}

static const struct connect_events listener_events = {
	.on_drain = on_listener_drain,
	.on_gone = on_listener_gone,
};

/* Takes the call out of the list, for whoever answers it. */
static struct connect_call *listener_remove(struct listener *l)
{
	struct connect_call *c = l->call;

	listener_unlink(l);
	free(l);
	return c;
}

/* Whether somebody is behind; remembers since when. */
static bool any_blocked(struct output *o)
{
	bool any = false;

	for (struct listener *l = o->listeners; l != NULL; l = l->next) {
		if (l->end_only || !connect_blocked(l->call)) {
			l->blocked_ns = 0;
			continue;
		}
		any = true;
		if (l->blocked_ns == 0)
			l->blocked_ns = clock_now_ns();
	}
	return any;
}

/* Makes the event of what is in `piece`. Return: its length. */
static size_t make_event(const struct ring_piece *got)
{
	size_t len = (size_t)snprintf(event, sizeof(event), "{\"event\":{\"data\":{\"%s\":\"",
				      stream_names[got->stream]);

	len += base64_encode(piece, got->n, event + len);
	return len + (size_t)snprintf(event + len, sizeof(event) - len,
				      "\",\"offset\":%" PRIu64 "}}}", got->position);
}

/* Sends the next piece. Return: whether there was one; the listener may be gone then. */
static bool listener_feed(struct listener *l)
{
	struct output *o = l->output;
	struct ring_piece got;

	if (l->end_only || connect_blocked(l->call) ||
	    !ring_read(&o->ring, &l->cursor, piece, sizeof(piece), &got))
		return false;
	if (ring_cursor_before(&o->heard, &l->cursor))
		o->heard = l->cursor;
	connect_send(l->call, event, make_event(&got));
	return true;
}

/* Sends each listener what it has not got yet, unless it is behind. */
static void feed(struct output *o)
{
	struct listener *next;
	bool more = true;

	while (more) {
		more = false;
		/* Sending may take the listener itself out of the list, but no other. */
		for (struct listener *l = o->listeners; l != NULL; l = next) {
			next = l->next;
			more |= listener_feed(l);
		}
	}
}

static void end_listeners(struct output *o)
{
	while (o->listeners != NULL) {
		struct listener *l = o->listeners;

		connect_send(l->call, o->end_event, strlen(o->end_event));
		if (o->listeners == l)
			connect_end(listener_remove(l));
	}
}

static void on_stall(uv_timer_t *timer)
{
	struct output *o = timer->data;
	uint64_t now = clock_now_ns();
	struct listener *next;

	for (struct listener *l = o->listeners; l != NULL; l = next) {
		next = l->next;
		if (l->blocked_ns != 0 && now - l->blocked_ns >= (uint64_t)STALL_MS * NS_PER_MS)
			connect_abort(listener_remove(l));
	}
	output_update(o);
}

/* Has the timer run until the longest blocked listener's time is up, or not at all. */
static void set_stall(struct output *o)
{
	uint64_t first = UINT64_MAX;
	uint64_t waited_ms;

	for (struct listener *l = o->listeners; l != NULL; l = l->next)
		if (l->blocked_ns != 0)
			first = MIN(first, l->blocked_ns);
	if (first == UINT64_MAX) {
		ignore_err(uv_timer_stop(o->stall)); /* cannot fail */
		return;
	}
	if (uv_is_active((uv_handle_t *)o->stall))
		return;
	waited_ms = (clock_now_ns() - first) / NS_PER_MS;
	uv_update_time(o->loop);
	ignore_err(uv_timer_start(o->stall, on_stall,
				  waited_ms < STALL_MS ? STALL_MS - waited_ms + 1 : 1,
				  0)); /* the callback is there, the handle is not closing */
}

static void pipe_close(struct output_pipe *pipe)
{
	handle_poll_free(&pipe->poll);
	fd_close(&pipe->fd);
	pipe->left = 0;
}

/*
 * Reads once, into the ring, or to nowhere when all that counts was read.
 * Return: bytes; 0 closed; -EAGAIN.
 */
static ssize_t pipe_read(struct output_pipe *pipe)
{
	struct output *o = pipe->output;
	bool late = o->end_event != NULL && pipe->left == 0;
	size_t want = sizeof(piece);
	ssize_t n;

	if (!late && ring_is_short(&o->ring, sizeof(piece)))
		o->reclaim(o->arg);
	if (!late)
		want = MIN(want, ring_most(&o->ring));
	if (o->end_event != NULL && !late)
		want = MIN(want, pipe->left);
	n = read(pipe->fd, piece, want);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return -EAGAIN;
	if (n <= 0) { /* the end of a terminal is EIO */
		pipe_close(pipe);
		return 0;
	}
	if (!late)
		ring_put(&o->ring, pipe->stream, piece, (size_t)n);
	if (!late && o->tap != NULL)
		o->tap((enum output_stream)pipe->stream, piece, (size_t)n, o->tap_arg);
	if (o->end_event != NULL && !late)
		pipe->left -= (size_t)n;
	return n;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct output_pipe *pipe = poll->data;

	(void)events;
	if (status < 0)
		pipe_close(pipe);
	else
		ignore_err((int)pipe_read(pipe)); /* what happened shows in the pipe */
	output_update(pipe->output);
}

/* Whether a terminal whose leader has ended held more, which is in the ring now. */
static bool pty_drain(struct output *o)
{
	struct output_pipe *pipe = &o->pipes[0];

	if (o->end_event == NULL || pipe->stream != OUTPUT_PTY || pipe->left == 0)
		return false;
	if (pipe_read(pipe) > 0)
		return true;
	pipe->left = 0;
	return false;
}

static void pipe_set_reading(struct output_pipe *pipe, bool on)
{
	int r;

	if (pipe->fd < 0 || pipe->reading == on)
		return;
	r = on ? uv_poll_start(pipe->poll, UV_READABLE, on_readable) : uv_poll_stop(pipe->poll);
	assert(r == 0); /* the handle is open and its descriptor ours */
	pipe->reading = on;
}

static void pump(struct output *o)
{
	bool blocked;

	do {
		feed(o);
		blocked = any_blocked(o);
	} while (!blocked && pty_drain(o));
	if (output_is_over(o) && !blocked)
		end_listeners(o);
	if (o->forgotten && o->listeners == NULL)
		ring_done(&o->ring);
	for (size_t i = 0; i < ARRAY_SIZE(o->pipes); i++)
		pipe_set_reading(&o->pipes[i], !blocked || output_is_over(o));
	set_stall(o);
}

/* Does all that can be done now. The last thing that a function of ours does: the output may be
 * gone after it. */
static void output_update(struct output *o)
{
	if (o->updating)
		return; /* a listener left while we were sending: the caller below goes on */
	o->updating = true;
	pump(o);
	o->updating = false;
	o->on_change(o->arg);
}

int output_init(struct output *o, uv_loop_t *loop, const struct output_source *source)
{
	*o = (struct output){ .loop = loop,
			      .ring = { .budget = source->budget },
			      .on_change = source->on_change,
			      .reclaim = source->reclaim,
			      .arg = source->arg };
	for (size_t i = 0; i < ARRAY_SIZE(o->pipes); i++)
		o->pipes[i] = (struct output_pipe){
			.output = o, .fd = -1, .stream = source->pty ? OUTPUT_PTY : (uint8_t)i
		};
	for (size_t i = 0; i < ARRAY_SIZE(o->pipes); i++) {
		struct output_pipe *pipe = &o->pipes[i];
		int r = 0;

		if (source->fds[i] >= 0)
			r = handle_poll_new(loop, source->fds[i], pipe, &pipe->poll);
		if (r < 0) {
			output_done(o);
			return r;
		}
	}
	o->stall = handle_timer_new(loop, o);
	for (size_t i = 0; i < ARRAY_SIZE(o->pipes); i++) {
		o->pipes[i].fd = take_fd(&source->fds[i]);
		pipe_set_reading(&o->pipes[i], true);
	}
	return 0;
}

void output_done(struct output *o)
{
	for (size_t i = 0; i < ARRAY_SIZE(o->pipes); i++)
		if (o->pipes[i].output != NULL)
			pipe_close(&o->pipes[i]);
	handle_timer_free(&o->stall);
	ring_done(&o->ring);
	free_ptr(&o->end_event);
}

/* Positions as an object; they are before 2^53 for as long as a machine lives. */
static json_t *positions_json(const uint64_t at[OUTPUT_STREAM_N])
{
	json_t *o = json_object();

	for (size_t i = 0; i < OUTPUT_STREAM_N; i++)
		ignore_err(json_object_set_new(
			o, stream_names[i],
			json_integer((json_int_t)at[i]))); /* without memory: it only informs */
	return o;
}

/* Whether output can be replayed from these positions on; fails the call if not. */
static bool is_held(const struct output *o, const uint64_t *from, struct connect_call *c)
{
	const struct ring *r = &o->ring;

	for (size_t i = 0; i < OUTPUT_STREAM_N; i++) {
		if (from[i] >= r->start[i] && from[i] <= r->end[i])
			continue;
		connect_failf(c, CONNECT_OUT_OF_RANGE,
			      "%s from byte %" PRIu64 " on is not there: bytes %" PRIu64
			      " to %" PRIu64 " are held",
			      stream_names[i], from[i], r->start[i], r->end[i]);
		return false;
	}
	return true;
}

void output_listen(struct output *o, struct connect_call *c, const struct output_listen *spec)
{
	struct listener *l;
	uint64_t lost;
	json_t *start;

	if (spec->from != NULL && !is_held(o, spec->from, c))
		return;
	l = xcalloc(1, sizeof(*l));
	*l = (struct listener){ .next = o->listeners,
				.output = o,
				.call = c,
				.starter = spec->starter,
				.end_only = spec->end_only };
	l->cursor = spec->from != NULL ? ring_seek(&o->ring, spec->from) : o->heard;
	o->listeners = l;
	connect_bind(c, &listener_events, l);
	lost = ring_lost(&o->ring, &l->cursor);
	for (size_t i = 0; i < OUTPUT_STREAM_N; i++)
		l->cursor.want[i] = MAX(l->cursor.want[i], o->ring.start[i]);
	start = json_pack("{s:I, s:o}", "pid", (json_int_t)spec->pid, "offsets",
			  positions_json(l->cursor.want));
	if (lost > 0)
		ignore_err(
			json_object_set_new(start, "droppedBytes",
					    json_integer((json_int_t)lost))); /* it only informs */
	if (o->pipes[0].stream == OUTPUT_PTY)
		ignore_err(json_object_set_new(start, "pty", json_true())); /* it only informs */
	o->updating = true; /* if the client leaves meanwhile, it is seen below */
	connect_send_json(c, json_pack("{s:{s:o}}", "event", "start", start));
	o->updating = false;
	output_update(o);
}

void output_tap(struct output *o,
		void (*fn)(enum output_stream s, const void *p, size_t n, void *arg), void *arg)
{
	o->tap = fn;
	o->tap_arg = arg;
}

void output_fail_starter(struct output *o, enum connect_code code, const char *why)
{
	for (struct listener *l = o->listeners; l != NULL; l = l->next) {
		if (!l->starter)
			continue;
		connect_failf(listener_remove(l), code, "%s", why);
		break;
	}
	output_update(o);
}

void output_finish(struct output *o, char *end_event)
{
	o->end_event = end_event;
	for (size_t i = 0; i < ARRAY_SIZE(o->pipes); i++) {
		struct output_pipe *pipe = &o->pipes[i];
		int left = 0;

		if (pipe->fd >= 0 && pipe->stream == OUTPUT_PTY)
			pipe->left = PTY_HELD_BYTES;
		else if (pipe->fd >= 0 && ioctl(pipe->fd, FIONREAD, &left) == 0)
			pipe->left = (size_t)left;
	}
	output_update(o);
}

bool output_is_over(const struct output *o)
{
	return o->end_event != NULL && o->pipes[0].left == 0 && o->pipes[1].left == 0;
}

bool output_is_idle(const struct output *o)
{
	return o->listeners == NULL && o->pipes[0].fd < 0 && o->pipes[1].fd < 0;
}

void output_forget(struct output *o)
{
	o->forgotten = true;
	if (o->listeners == NULL)
		ring_done(&o->ring);
}

void output_reclaim(struct output *o)
{
	for (const struct listener *l = o->listeners; l != NULL; l = l->next)
		if (!l->end_only && !ring_at_end(&o->ring, &l->cursor))
			return;
	if (ring_at_end(&o->ring, &o->heard))
		ring_done(&o->ring);
}
