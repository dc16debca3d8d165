/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams into a sandbox that is about to be paused. Each has a connection of its own into the
 * guest, which ends with it, and new ones are refused meanwhile: when the last has ended, nobody
 * outside waits for the guest.
 */
#include "base/clock.h"
#include "base/str.h"
#include "sandbox/sandbox-internal.h"

#include <errno.h>
#include <stdlib.h>

struct drain {
	uv_timer_t timer;
	struct sandbox *sb;
	uint64_t start_ns;
	void (*done)(uint64_t ns, void *arg);
	void *arg;
};

static void on_closed(uv_handle_t *timer)
{
	free(timer->data);
}

static void on_drained(void *arg)
{
	struct drain *d = arg;

	uv_close((uv_handle_t *)&d->timer, on_closed);
	d->done(clock_now_ns() - d->start_ns, d->arg);
}

static void on_timeout(uv_timer_t *timer)
{
	struct drain *d = timer->data;

	proxy_drain_end(&d->sb->streams);
}

void drain_start(struct sandbox *sb, void (*done)(uint64_t ns, void *arg), void *arg)
{
	struct drain *d = xcalloc(1, sizeof(*d));
	unsigned timeout_ms = sb->m->config.pause_drain_ms;

	d->sb = sb;
	d->start_ns = clock_now_ns();
	d->done = done;
	d->arg = arg;
	uv_timer_init(sb->m->loop, &d->timer);
	d->timer.data = d;
	if (timeout_ms > 0) {
		uv_update_time(sb->m->loop); /* from which the timer counts */
		uv_timer_start(&d->timer, on_timeout, timeout_ms, 0);
	} else {
		proxy_abort_all(&sb->streams, ESHUTDOWN);
	}
	proxy_drain(&sb->streams, on_drained, d);
}
