/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a sandbox that fails, or that nobody uses, as its owner wants it. */
#include "sandbox/sandbox-internal.h"

/* While it is made or removed it is not its owner's. */
static int check_owned(const struct sandbox *sb, struct err *e)
{
	int r = manager_check_open(sb->m, e);

	if (r < 0)
		return r;
	if (sb->doomed || sb->row.state == DB_DELETING)
		return err_set(e, ERR_NOT_FOUND, "sandbox %s is being removed", sb->row.id.s);
	if (sb->row.state == DB_CREATING || sb->changing)
		return err_set(e, ERR_CONFLICT, "sandbox %s is being %s; try again", sb->row.id.s,
			       sb->changing ? "changed" : "made");
	return 0;
}

int sandbox_set_policy(struct sandbox *sb, const struct sandbox_policy *policy, struct err *e)
{
	struct sandbox_policy old = sandbox_policy_of(&sb->row);
	uint64_t old_tries = sb->row.restart_tries;
	bool old_restarting = sb->row.restarting;
	int r = check_owned(sb, e);

	if (r < 0)
		return r;
	sandbox_policy_put(policy, &sb->row);
	sb->row.restart_tries = 0;
	sb->row.restarting = old_restarting && policy->restart_max > 0;
	r = db_sandbox_update(sb->m->db, &sb->row, e);
	if (r < 0) {
		sandbox_policy_put(&old, &sb->row);
		sb->row.restart_tries = old_tries;
		sb->row.restarting = old_restarting;
		return r;
	}
	if (policy->restart_max == 0)
		restart_forget(sb);
	idle_renew(sb);
	return 0;
}
