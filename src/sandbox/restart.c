/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The restart policy: a sandbox whose VM failed is booted from its newest disk, as by `viv start`,
 * without anybody's asking. That it is to be, and how often it was, is in its row, written with the
 * end of the VM: a daemon that is killed at any moment leaves it to the next one. The wait before
 * each try doubles; a VM that ran for long begins anew, and so does a start by hand.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/sandbox-internal.h"

#include <inttypes.h>
#include <stdlib.h>

enum { WAIT_FIRST_MS = 500, WAIT_MOST_MS = 60000, WAIT_DOUBLINGS_MAX = 7, STABLE_MS = 600000 };

static bool tries_are_left(const struct sandbox *sb)
{
	return sb->row.restart_tries < sb->row.restart_max;
}

static bool ran_long(const struct sandbox *sb)
{
	uint64_t now_ms = clock_realtime_ms();

	return now_ms - MIN(sb->row.started_ms, now_ms) >= STABLE_MS;
}

bool restart_is_due(const struct sandbox *sb)
{
	return sb->row.restart_max > 0 && (ran_long(sb) || tries_are_left(sb));
}

static void note_given_up(struct sandbox *sb)
{
	log_error("sandbox.restart_given_up", kv_str("id", sb->row.id.s),
		  kv_u64("tries", sb->row.restart_tries));
	journal_add(&sb->journal, 0, LOG_LEVEL_ERROR,
		    "not started again: %" PRIu64 " tries in a row ended in a failure",
		    sb->row.restart_tries);
}

void restart_plan(struct sandbox *sb, enum death_cause cause)
{
	sb->row.restarting = false;
	if (sb->row.restart_max == 0 || !death_is_failure(cause))
		return;
	if (ran_long(sb))
		sb->row.restart_tries = 0;
	sb->row.restarting = tries_are_left(sb);
	if (!sb->row.restarting)
		note_given_up(sb);
}

static void on_closed(uv_handle_t *timer)
{
	free(timer);
}

void restart_forget(struct sandbox *sb)
{
	uv_timer_t *timer = take_ptr(&sb->restart);

	if (timer != NULL)
		uv_close((uv_handle_t *)timer, on_closed);
}

static void give_up(struct sandbox *sb)
{
	sb->row.restarting = false;
	note_given_up(sb);
	sandbox_set_state(sb, sb->row.state, NULL);
}

static void on_restarted(struct sandbox *sb, bool resumed, const struct err *e, void *arg)
{
	(void)resumed;
	(void)arg;
	if (e == NULL || sb == NULL)
		return;
	if (tries_are_left(sb))
		restart_later(sb);
	else
		give_up(sb);
}

static bool can_restart(const struct sandbox *sb)
{
	return sb->row.restarting && sb->row.state == DB_STOPPED && !sb->row.leaked &&
	       !sb->unsure && !sb->doomed && !sb->m->closing;
}

static void on_time(uv_timer_t *timer);

static void start_timer(struct sandbox *sb, uint64_t wait_ms)
{
	sb->restart = xcalloc(1, sizeof(*sb->restart));
	uv_timer_init(sb->m->loop, sb->restart);
	sb->restart->data = sb;
	uv_update_time(sb->m->loop); /* from which the timer counts */
	uv_timer_start(sb->restart, on_time, MIN(wait_ms, (uint64_t)WAIT_MOST_MS), 0);
}

static void restart(struct sandbox *sb)
{
	struct err e = { 0 };

	sb->row.restart_tries++;
	db_set_str(&sb->row.cause, "restart");
	log_info("sandbox.restarting", kv_str("id", sb->row.id.s),
		 kv_u64("try", sb->row.restart_tries), kv_u64("of", sb->row.restart_max));
	if (resume_unasked(sb, on_restarted, NULL, &e) == 0)
		return;
	if (e.kind == ERR_EXHAUSTED) { /* no fault of its own, and no try */
		sb->row.restart_tries--;
		log_warning("sandbox.restart_waits", kv_str("id", sb->row.id.s),
			    kv_str("error", e.msg));
		start_timer(sb, WAIT_MOST_MS);
		return;
	}
	on_restarted(sb, false, &e, NULL);
}

static void on_idle(struct sandbox *sb, const struct err *gone, void *arg)
{
	(void)arg;
	if (gone == NULL)
		restart_later(sb);
}

static void on_time(uv_timer_t *timer)
{
	struct sandbox *sb = timer->data;

	restart_forget(sb);
	if (sb->busy)
		sandbox_when_idle(sb, on_idle, NULL);
	else if (can_restart(sb))
		restart(sb);
}

void restart_later(struct sandbox *sb)
{
	uint64_t wait_ms = (uint64_t)WAIT_FIRST_MS
			   << MIN(sb->row.restart_tries, (uint64_t)WAIT_DOUBLINGS_MAX);

	if (sb->restart == NULL && can_restart(sb))
		start_timer(sb, wait_ms);
}
