/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a sandbox can be used, and when it ends by itself. */
#include "sandbox/sandbox-internal.h"

int sandbox_check_running(const struct sandbox *sb, struct err *e)
{
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
	int r = sandbox_check_running(sb, e);

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
	watch_deadline_changed(sb);
	return 0;
}
