/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a sandbox can be used, and when it ends by itself, and how: it is removed, or, if it was
 * made so, paused. A pause that fails removes nothing: the sandbox runs on, and is paused later.
 */
#include "base/clock.h"
#include "base/log.h"
#include "sandbox/rests.h"
#include "sandbox/sandbox-internal.h"

enum { RETRY_FIRST_MS = 5000, RETRY_MOST_MS = 300000 };

int sandbox_check_running(const struct sandbox *sb, struct err *e)
{
	if (sb->unsure)
		return err_set(e, ERR_CONFLICT,
			       "whether the VM of sandbox %s runs is not known yet; try again",
			       sb->row.id.s);
	if (sb->row.state == DB_RUNNING && (!sb->busy || sb->goes_on) && !sb->doomed)
		return 0;
	if (sb->row.state == DB_STOPPED || sb->row.state == DB_PAUSED)
		return err_set(e, ERR_NOT_FOUND, "sandbox %s is %s, not running", sb->row.id.s,
			       db_state_name(sb->row.state));
	return err_set(e, ERR_CONFLICT, "sandbox %s is %s; try again", sb->row.id.s,
		       db_state_name(sb->row.state));
}

int sandbox_check_idle(const struct sandbox *sb, struct err *e)
{
	int r = manager_check_open(sb->m, e);

	if (r == 0)
		r = sandbox_check_running(sb, e);
	if (r < 0)
		return r;
	if (sb->busy)
		return err_set(e, ERR_CONFLICT,
			       "a checkpoint of sandbox %s is being made; try again", sb->row.id.s);
	if (sb->changing)
		return err_set(e, ERR_CONFLICT, "sandbox %s is being changed; try again",
			       sb->row.id.s);
	return 0;
}

int sandbox_check_usable(const struct sandbox *sb, struct err *e)
{
	int r = frozen_check(sb, e);

	return r < 0 ? r : sandbox_check_idle(sb, e);
}

int sandbox_check_paused(const struct sandbox *sb, struct err *e)
{
	int r = manager_check_open(sb->m, e);

	if (r < 0)
		return r;
	if (sb->doomed || sb->unsure || sb->row.state != DB_PAUSED)
		return err_set(e, ERR_CONFLICT, "sandbox %s is changing; try again", sb->row.id.s);
	return 0;
}

int sandbox_check_at_rest(const struct sandbox *sb, struct err *e)
{
	int r = manager_check_open(sb->m, e);

	if (r < 0)
		return r;
	if (sb->row.state != DB_PAUSED && sb->row.state != DB_STOPPED)
		return err_set(e, ERR_CONFLICT, "sandbox %s is %s; try again", sb->row.id.s,
			       db_state_name(sb->row.state));
	if (sb->doomed || sb->unsure || sb->row.leaked)
		return err_set(e, ERR_CONFLICT, "sandbox %s is changing; try again", sb->row.id.s);
	return 0;
}

int sandbox_set_deadline(struct sandbox *sb, uint64_t end_ms, struct err *e)
{
	uint64_t old_ms = sb->row.end_ms;
	int r = sandbox_check_running(sb, e);

	if (r < 0)
		return r;
	sb->row.end_ms = end_ms;
	r = db_sandbox_update(sb->m->db, &sb->row, e);
	if (r < 0) {
		sb->row.end_ms = old_ms;
		return r;
	}
	sb->expiry = (struct expiry){ 0 };
	sandbox_touch(sb);
	watch_deadline_changed(sb);
	return 0;
}

int sandbox_set_auto_pause(struct sandbox *sb, bool pauses, struct err *e)
{
	bool old = sb->row.auto_pause;
	bool old_disk_only = sb->row.auto_pause_disk_only;
	int r = sandbox_check_running(sb, e);

	if (r < 0)
		return r;
	sb->row.auto_pause = pauses;
	sb->row.auto_pause_disk_only = pauses && old_disk_only;
	r = db_sandbox_update(sb->m->db, &sb->row, e);
	if (r == 0)
		return 0;
	sb->row.auto_pause = old;
	sb->row.auto_pause_disk_only = old_disk_only;
	return r;
}

uint64_t sandbox_expires_ms(const struct sandbox *sb)
{
	return sb->row.end_ms == 0 ? 0 : MAX(sb->row.end_ms, sb->expiry.again_ms);
}

static void on_removed(const struct err *e, void *arg)
{
	(void)arg;
	if (e != NULL)
		log_error("sandbox.expire_failed", kv_str("error", e->msg));
}

static void pause_again_later(struct sandbox *sb, const struct err *e)
{
	struct expiry *expiry = &sb->expiry;

	db_set_str(&sb->row.cause, "");
	expiry->wait_ms = expiry->wait_ms == 0 ? RETRY_FIRST_MS
					       : MIN(2 * expiry->wait_ms, (uint64_t)RETRY_MOST_MS);
	expiry->again_ms = clock_realtime_ms() + expiry->wait_ms;
	log_error("sandbox.expire_failed", kv_str("id", sb->row.id.s), kv_str("error", e->msg),
		  kv_u64("again_in_ms", expiry->wait_ms));
	watch_deadline_changed(sb);
}

static void on_paused(struct sandbox *sb, const struct err *e, void *arg)
{
	(void)arg;
	if (sb == NULL)
		return;
	if (e != NULL) {
		pause_again_later(sb, e);
		return;
	}
	sb->expiry = (struct expiry){ 0 };
	watch_deadline_changed(sb); /* of one that was given more time meanwhile */
}

/* It may have been given more time while others were paused. */
static bool is_expired(const struct sandbox *sb)
{
	uint64_t end_ms = sandbox_expires_ms(sb);

	return end_ms != 0 && end_ms <= clock_realtime_ms();
}

void sandbox_expire(struct sandbox *sb)
{
	log_info("sandbox.expired", kv_str("id", sb->row.id.s));
	if (!sb->row.auto_pause) {
		db_set_str(&sb->row.cause, "timeout");
		sandbox_destroy(sb, on_removed, NULL);
		return;
	}
	rest_later(sb, &(struct rest_wish){ .memory = !sb->row.auto_pause_disk_only,
					    .cause = "timeout",
					    .wanted = is_expired,
					    .done = on_paused });
}
