/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/output.h"

#include "agent/handle.h"
#include "base/base64.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum {
	PIECE_BYTES = 32768,         /* of one data event */
	EVENT_EXTRA_BYTES = 64,      /* what is around the base64 of one */
	STALL_MS = 30000,            /* how long a listener may block the process */
	RING_KEEP_BYTES = 2 * 65536, /* an empty ring above this gives its memory back */
};

struct listener {
	struct listener *next;
	struct output *output;
	struct connect_call *call;
	uint64_t blocked_ns; /* since when; 0 = it is not */
	bool starter;
};

/* The loop is one thread, so one of each serves all processes. */
static uint8_t piece[PIECE_BYTES];
static char event[BASE64_ENCODED_LEN(PIECE_BYTES) + EVENT_EXTRA_BYTES];

static const char *const event_heads[] = { "{\"event\":{\"data\":{\"stdout\":\"",
					   "{\"event\":{\"data\":{\"stderr\":\"" };
static const char event_tail[] = "\"}}}";

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
		if (!connect_blocked(l->call)) {
			l->blocked_ns = 0;
			continue;
		}
		any = true;
		if (l->blocked_ns == 0)
			l->blocked_ns = clock_now_ns();
	}
	return any;
}

static void broadcast(struct output *o, const char *text, size_t n)
{
	struct listener *next;

	/* Sending may take the listener itself out of the list, but no other. */
	for (struct listener *l = o->listeners; l != NULL; l = next) {
		next = l->next;
		connect_send(l->call, text, n);
	}
}

static void broadcast_data(struct output *o, uint8_t stream, size_t n)
{
	size_t len = strlen(event_heads[stream]);

	memcpy(event, event_heads[stream], len);
	len += base64_encode(piece, n, event + len);
	memcpy(event + len, event_tail, sizeof(event_tail) - 1);
	broadcast(o, event, len + sizeof(event_tail) - 1);
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

static void on_readable(uv_poll_t *poll, int status, int events)
{
	struct output_pipe *pipe = poll->data;
	struct output *o = pipe->output;
	bool late = o->end_event != NULL && pipe->left == 0;
	size_t want = sizeof(piece);
	ssize_t n;

	(void)events;
	if (o->end_event != NULL && !late)
		want = MIN(want, pipe->left);
	n = status < 0 ? 0 : read(pipe->fd, piece, want);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		pipe_close(pipe);
	} else if (!late) {
		ring_put(&o->ring, (uint8_t)(pipe - o->pipes), piece, (size_t)n);
		if (o->end_event != NULL)
			pipe->left -= (size_t)n;
	}
	output_update(o);
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
	uint8_t stream;
	bool blocked;
	size_t n;

	while (!(blocked = any_blocked(o)) && o->listeners != NULL) {
		n = ring_take(&o->ring, &stream, piece, sizeof(piece));
		if (n == 0)
			break;
		broadcast_data(o, stream, n);
	}
	if (o->ring.len == 0 && o->ring.cap > RING_KEEP_BYTES)
		ring_done(&o->ring);
	if (output_is_over(o) && o->ring.len == 0 && !blocked)
		end_listeners(o);
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

int output_init(struct output *o, uv_loop_t *loop, int fds[2], void (*on_change)(void *arg),
		void *arg)
{
	*o = (struct output){ .loop = loop, .on_change = on_change, .arg = arg };
	for (size_t i = 0; i < ARRAY_SIZE(o->pipes); i++)
		o->pipes[i] = (struct output_pipe){ .output = o, .fd = -1 };
	for (size_t i = 0; i < ARRAY_SIZE(o->pipes); i++) {
		int r = handle_poll_new(loop, fds[i], &o->pipes[i], &o->pipes[i].poll);

		if (r < 0) {
			output_done(o);
			return r;
		}
	}
	o->stall = handle_timer_new(loop, o);
	for (size_t i = 0; i < ARRAY_SIZE(o->pipes); i++) {
		o->pipes[i].fd = take_fd(&fds[i]);
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

void output_listen(struct output *o, struct connect_call *c, int64_t pid, bool starter)
{
	struct listener *l = xcalloc(1, sizeof(*l));
	json_t *start = json_pack("{s:I}", "pid", (json_int_t)pid);

	*l = (struct listener){ .next = o->listeners, .output = o, .call = c, .starter = starter };
	o->listeners = l;
	connect_bind(c, &listener_events, l);
	/* An extension: how much the ring had to drop before anybody came for it. */
	if (o->ring.dropped_bytes > 0)
		ignore_err(json_object_set_new(
			start, "droppedBytes",
			json_integer((json_int_t)o->ring.dropped_bytes))); /* it only informs */
	connect_send_json(c, json_pack("{s:{s:o}}", "event", "start", start));
	output_update(o);
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
		int left = 0;

		if (o->pipes[i].fd >= 0 && ioctl(o->pipes[i].fd, FIONREAD, &left) == 0)
			o->pipes[i].left = (size_t)left;
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
	ring_done(&o->ring);
}
