/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ends of a sandbox: destroy (everything goes, data too), the end of its VM (what is volatile
 * goes, data stays), and the reaper, which tries again what could not be released or written.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/ready-internal.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/steps.h"

#include <errno.h>
#include <stdlib.h>

enum { REAP_FIRST_MS = 1000, REAP_MOST_MS = 60000 };

struct release {
	struct sandbox *sb;
	bool data;
	bool paused; /* its disk goes: the checkpoint holds it */
	unsigned leaks;
};

static void release_work(void *arg)
{
	struct release *rel = arg;
	struct sandbox *sb = rel->sb;
	struct op op;

	rel->leaks = plan_release(&create_plan, sb, rel->data, sb->m->config.fault);
	if (!rel->paused || rel->leaks > 0 || sb->res.dirfd < 0)
		return;
	op_init(&op, 0, -1);
	if (disk_release(sb->m->disk, sb->res.dirfd, &op) == 0)
		return;
	log_error("pause.disk", kv_str("id", sb->row.id.s), kv_str("error", op.err.msg));
	rel->leaks++;
}

static void release_done(void *arg)
{
	struct release *rel = arg;
	struct sandbox *sb = rel->sb;
	struct manager *m = sb->m;

	sandbox_end(sb);
	if (rel->leaks == 0)
		m->reap_ms = 0; /* what leaks from now on is tried again soon */
	if (rel->data) {
		sandbox_drop(sb, rel->leaks);
	} else {
		sb->row.leaked = rel->leaks > 0;
		sandbox_set_state(sb, sb->row.state, NULL);
		if (rel->leaks > 0)
			reap_later(m);
		restart_later(sb);
		sandbox_idle(sb);
	}
	free(rel);
	manager_operation_ended(m);
}

static void start_release(struct sandbox *sb, bool data)
{
	struct release *rel = xcalloc(1, sizeof(*rel));

	*rel = (struct release){ .sb = sb, .data = data, .paused = sb->row.state == DB_PAUSED };
	watch_stop(sb);
	ready_leave(sb);
	egress_detach(sb);
	proxy_abort_all(&sb->streams, ESHUTDOWN);
	sandbox_begin(sb);
	work_submit(sb->m->loop, release_work, release_done, rel);
}

void sandbox_start_destroy(struct sandbox *sb)
{
	sb->unsure = false; /* whatever lives of it, it goes */
	if (sb->row.state != DB_READY)
		sandbox_set_state(sb, DB_DELETING, NULL);
	start_release(sb, true);
}

void sandbox_stopped(struct sandbox *sb, enum death_cause cause, const char *why)
{
	log_warning("sandbox.stopped", kv_str("id", sb->row.id.s),
		    kv_str("cause", death_name(cause)), kv_str("why", why));
	db_set_str(&sb->row.cause, death_name(cause));
	restart_plan(sb, cause);
	sb->row.leaked = true; /* until it is released, also for a daemon that dies meanwhile */
	sandbox_set_state(sb, DB_STOPPED, why);
	start_release(sb, false);
}

void sandbox_destroy(struct sandbox *sb, void (*done)(const struct err *e, void *arg), void *arg)
{
	destroy_waiters_push(&sb->waiters, (struct destroy_waiter){ done, arg });
	sb->doomed = true;
	sandbox_hurry(sb);
	if (!sb->busy) {
		sandbox_start_destroy(sb);
		return;
	}
	sandbox_cancel_create(sb->m, &sb->row.id); /* anything else is waited for */
	proxy_drain_end(&sb->streams);
}

static void on_closed(uv_handle_t *handle)
{
	free(handle);
}

void reap_stop(struct manager *m)
{
	uv_timer_t *timer = take_ptr(&m->reaper);

	if (timer != NULL)
		uv_close((uv_handle_t *)timer, on_closed);
}

static void on_reap(uv_timer_t *timer)
{
	struct manager *m = timer->data;

	reap_stop(m);
	for (size_t i = m->all.n; i-- > 0;) {
		struct sandbox *sb = m->all.at[i];

		if (sb->busy) {
			if (sb->unwritten)
				reap_later(m);
			continue;
		}
		if (sb->unwritten && sandbox_write(sb))
			m->reap_ms = 0;
		if (sb->unsure)
			adopt_again(sb);
		else if (sb->row.leaked)
			start_release(sb,
				      sb->row.state == DB_DELETING || sb->row.state == DB_READY);
	}
}

void reap_later(struct manager *m)
{
	if (m->reaper != NULL || m->closing)
		return;
	m->reap_ms = m->reap_ms == 0 ? REAP_FIRST_MS : MIN(2 * m->reap_ms, (uint64_t)REAP_MOST_MS);
	m->reaper = xcalloc(1, sizeof(*m->reaper));
	uv_timer_init(m->loop, m->reaper);
	m->reaper->data = m;
	uv_timer_start(m->reaper, on_reap, m->reap_ms, 0);
}
