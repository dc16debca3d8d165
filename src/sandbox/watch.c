/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Watching a running VM from the loop: its process (pidfd), its events, its console, what it uses,
 * and the sandbox's deadline. The watch is taken off before the resources go to a worker, since
 * these descriptors are part of them.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "os/cgroup.h"
#include "sandbox/death.h"
#include "sandbox/metrics-internal.h"
#include "sandbox/sandbox-internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { CONSOLE_CHUNK_BYTES = 4096 };

/* A VMM whose guest ended writes its disk back and ends; one that hangs meanwhile (vmm/qmp.c has
 * how that comes) is ended. */
enum { ENDING_MS = 5000 };

struct watch {
	struct sandbox *sb;
	uv_poll_t process;
	uv_poll_t events;
	uv_poll_t console;
	uv_timer_t deadline;
	uv_timer_t idle;
	uv_timer_t ending; /* runs once the guest ended */
	unsigned open;     /* handles that libuv has not closed yet */
};

static void on_handle_closed(uv_handle_t *handle)
{
	struct watch *w = handle->data;

	if (--w->open == 0)
		free(w);
}

static void close_handle(uv_handle_t *handle)
{
	if (handle->data != NULL && !uv_is_closing(handle))
		uv_close(handle, on_handle_closed);
}

void watch_stop(struct sandbox *sb)
{
	struct watch *w = take_ptr(&sb->watch);

	if (w == NULL)
		return;
	meter_stop(sb);
	probe_stop(sb);
	if (w->open == 0) {
		free(w);
		return;
	}
	close_handle((uv_handle_t *)&w->process);
	close_handle((uv_handle_t *)&w->events);
	close_handle((uv_handle_t *)&w->console);
	close_handle((uv_handle_t *)&w->deadline);
	close_handle((uv_handle_t *)&w->ending);
	close_handle((uv_handle_t *)&w->idle);
}

static void note_event(struct sandbox *sb, enum vmm_event event)
{
	if (event == VMM_EVENT_NO_SPACE || event == VMM_EVENT_IO_ERROR) {
		frozen_note(sb, event);
	} else if (event == VMM_EVENT_PANIC) {
		log_warning("sandbox.panic", kv_str("id", sb->row.id.s));
		journal_add(&sb->journal, 0, LOG_LEVEL_ERROR, "the guest's kernel panicked");
	}
}

/* Return: whether the VMM has closed the connection. */
static bool take_events(struct sandbox *sb)
{
	enum vmm_event event;
	bool closed = false;

	while ((event = vmm_next_event(sb->res.vmm)) != VMM_EVENT_NONE) {
		note_event(sb, event);
		closed = closed || event == VMM_EVENT_CLOSED;
	}
	return closed;
}

static void drain_console(struct sandbox *sb)
{
	char chunk[CONSOLE_CHUNK_BYTES];
	ssize_t n;

	while ((n = read(vmm_console_fd(sb->res.vmm), chunk, sizeof(chunk))) > 0)
		console_feed(&sb->res.console, chunk, (size_t)n);
}

/* What the kernel ended of this VM; where it does not count that, of the whole host since it was
 * looked at last, by this VM's end at the latest. */
static uint64_t new_oom_kills(const struct sandbox *sb)
{
	struct manager *m = sb->m;
	uint64_t now = death_oom_kills();
	uint64_t kills = now - MIN(m->oom_kills, now);

	m->oom_kills = now;
	ignore_err(cgroup_oom_kills(sb->res.cgroup_fd, &kills)); /* then it stays the host's */
	return kills;
}

static void on_process(uv_poll_t *handle, int status, int events)
{
	struct sandbox *sb = ((struct watch *)handle->data)->sb;
	struct death death = { .console = &sb->res.console };
	auto_free char *why = NULL;
	enum death_cause cause;

	(void)status;
	(void)events;
	if (vmm_console_fd(sb->res.vmm) >= 0)
		drain_console(sb);
	take_events(sb);
	death.by_guest = vmm_guest_ended(sb->res.vmm);
	death.code = vmm_reap(sb->res.vmm);
	death.oom_kills = new_oom_kills(sb);
	death.was_silent = sb->probe.ended;
	sb->probe.ended = false;
	why = death_explain(&death, &cause);
	sandbox_stopped(sb, cause, why);
}

static void on_console(uv_poll_t *handle, int status, int events)
{
	struct sandbox *sb = ((struct watch *)handle->data)->sb;
	char chunk[CONSOLE_CHUNK_BYTES];
	ssize_t n;

	(void)events;
	n = status < 0 ? 0 : read(vmm_console_fd(sb->res.vmm), chunk, sizeof(chunk));
	if (n > 0)
		console_feed(&sb->res.console, chunk, (size_t)n);
	else if (n == 0 || errno != EAGAIN)
		uv_poll_stop(handle); /* the VMM closed it; its end is seen by the pidfd */
}

static void on_ending(uv_timer_t *timer)
{
	struct sandbox *sb = ((struct watch *)timer->data)->sb;

	log_warning("sandbox.vmm_hangs", kv_str("id", sb->row.id.s), kv_u64("after_ms", ENDING_MS));
	ignore_err(vmm_kill(sb->res.vmm));
}

static void await_end(struct watch *w)
{
	uv_update_time(w->sb->m->loop);
	uv_timer_start(&w->ending, on_ending, ENDING_MS, 0);
}

static void on_event(uv_poll_t *handle, int status, int events)
{
	struct watch *w = handle->data;
	bool ended = vmm_guest_ended(w->sb->res.vmm);
	bool closed = take_events(w->sb);

	(void)events;
	if (!ended && vmm_guest_ended(w->sb->res.vmm))
		await_end(w);
	if (closed || status < 0)
		uv_poll_stop(handle);
}

static void on_deadline(uv_timer_t *timer)
{
	sandbox_expire(((struct watch *)timer->data)->sb);
}

static void watch_fd(struct watch *w, uv_poll_t *handle, int fd, uv_poll_cb fn)
{
	int r;

	if (fd < 0)
		return;
	r = uv_poll_init(w->sb->m->loop, handle, fd);
	if (r < 0) {
		log_error("sandbox.unwatched", kv_str("id", w->sb->row.id.s),
			  kv_str("error", uv_strerror(r)));
		return;
	}
	handle->data = w;
	w->open++;
	uv_poll_start(handle, UV_READABLE, fn);
}

static void arm_deadline(struct watch *w)
{
	uint64_t end_ms = sandbox_expires_ms(w->sb);
	uint64_t now_ms = clock_realtime_ms();

	if (end_ms == 0) {
		uv_timer_stop(&w->deadline);
		return;
	}
	/* The timer counts from the loop's time, which may be old. */
	uv_update_time(w->sb->m->loop);
	uv_timer_start(&w->deadline, on_deadline, end_ms > now_ms ? end_ms - now_ms : 0, 0);
}

void watch_deadline_changed(struct sandbox *sb)
{
	if (sb->watch != NULL)
		arm_deadline(sb->watch);
}

static void on_idle(uv_timer_t *timer)
{
	sandbox_idle_out(((struct watch *)timer->data)->sb);
}

static void arm_idle(struct watch *w)
{
	if (w->sb->row.idle_s == 0) {
		uv_timer_stop(&w->idle);
		return;
	}
	uv_update_time(w->sb->m->loop); /* as of the deadline */
	uv_timer_start(&w->idle, on_idle, MAX(idle_left_ms(w->sb), UINT64_C(1)), 0);
}

void watch_idle_changed(struct sandbox *sb)
{
	if (sb->watch != NULL)
		arm_idle(sb->watch);
}

static void watch_timer(struct watch *w, uv_timer_t *timer)
{
	uv_timer_init(w->sb->m->loop, timer);
	timer->data = w;
	w->open++;
}

void watch_start(struct sandbox *sb)
{
	struct watch *w;

	assert(sb->watch == NULL);
	if (sb->m->closing)
		return; /* it is the next daemon's */
	w = xcalloc(1, sizeof(*w));
	w->sb = sb;
	sb->watch = w;
	watch_fd(w, &w->process, vmm_pidfd(sb->res.vmm), on_process);
	watch_fd(w, &w->events, vmm_event_fd(sb->res.vmm), on_event);
	watch_fd(w, &w->console, vmm_console_fd(sb->res.vmm), on_console);
	watch_timer(w, &w->ending);
	watch_timer(w, &w->deadline);
	arm_deadline(w);
	watch_timer(w, &w->idle);
	idle_begin(sb);
	arm_idle(w);
	if (vmm_guest_ended(sb->res.vmm)) /* seen by a watch before this one */
		await_end(w);
	if (vmm_frozen(sb->res.vmm) != VMM_EVENT_NONE)
		frozen_note(sb, vmm_frozen(sb->res.vmm)); /* heard by a worker, or a new vivd */
	meter_start(sb);
	probe_start(sb);
}
