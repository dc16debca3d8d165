/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The start of a daemon: intents on one side, the host on the other.
 *
 *  - A row that was being created or deleted, or was kept ready, is unwound whole: nobody was given
 * it, or it was on its way out.
 *  - A row whose VM should run is adopted; if a part of it is gone, what is volatile is released
 * and it is stopped, with its data; if that cannot be told, nothing is touched and it is tried
 * again.
 *  - Slots, cgroups and run directories with our tag that no row owns are removed.
 *  - Data without a row is never deleted: it is named in the log.
 *
 * All of it runs before the loop does, so nothing can come in between.
 */
#include "base/dir.h"
#include "base/log.h"
#include "base/str.h"
#include "os/cgroup.h"
#include "os/work.h"
#include "sandbox/metrics-internal.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/steps.h"
#include "sandbox/sweep.h"
#include "sandbox/take.h"

#include <errno.h>
#include <fcntl.h>

enum { ADOPT_TIMEOUT_MS = 10000, LOST_CONSOLE_BYTES = 600 };

static int load_row(struct db_sandbox *row, void *arg)
{
	struct sandbox *sb = sandbox_new(arg, row);

	db_sandbox_done(row); /* the empty one that is left of it */
	meter_load(sb);
	journal_add(&sb->journal, 0, LOG_LEVEL_INFO, "vivd started and found it %s%s%s",
		    db_state_name(sb->row.state), sb->row.last_error[0] != '\0' ? ": " : "",
		    sb->row.last_error);
	return 0;
}

static void adopted(struct sandbox *sb)
{
	log_info("sandbox.adopted", kv_str("id", sb->row.id.s),
		 kv_u64("pid", (uint64_t)vmm_pid(sb->res.vmm)));
	watch_start(sb);
}

/* Finishes what comes behind a pause. */
static void tidy(struct sandbox *sb)
{
	struct op op;
	int r;

	op_init(&op, ADOPT_TIMEOUT_MS, -1);
	r = statedir_adopt(sb, &op);
	if (r > 0)
		r = checkpoint_tidy(sb->res.dirfd, sb->row.generation, &op);
	if (r < 0)
		log_error("pause.tidy", kv_str("id", sb->row.id.s), kv_str("error", op.err.msg));
}

/* Releases all that is left of a VM, and for a paused one the disk, which its checkpoint holds. */
static void come_to_rest(struct sandbox *sb, enum db_state state)
{
	unsigned leaks = plan_release(&create_plan, sb, false, sb->m->config.fault);
	struct op op;

	op_init(&op, ADOPT_TIMEOUT_MS, -1);
	if (state == DB_PAUSED && leaks == 0 && sb->res.dirfd >= 0 &&
	    disk_release(sb->m->disk, sb->res.dirfd, &op) < 0)
		log_error("sandbox.release_failed", kv_str("id", sb->row.id.s),
			  kv_str("error", op.err.msg));
	if (state == DB_PAUSED)
		tidy(sb);
	sb->row.leaked = leaks > 0;
	sandbox_set_state(sb, state, NULL);
	if (leaks > 0)
		reap_later(sb->m);
	restart_later(sb);
}

/* What was found of a sandbox whose VM should run. */
struct adoption {
	struct sandbox *sb;
	struct op op;
	int result; /* of plan_adopt() */
	int pause;  /* of pause_recover(), of one that was being paused */
	int take;   /* of take_recover(), of any other */
};

static void adopt_work(void *arg)
{
	struct adoption *a = arg;

	op_init(&a->op, ADOPT_TIMEOUT_MS, -1);
	a->result = plan_adopt(&create_plan, a->sb, &a->op);
	if (a->result >= 0 && a->sb->row.state == DB_PAUSING)
		a->pause = pause_recover(a->sb, a->result > 0, &a->op);
	else if (a->result >= 0)
		a->take = take_recover(a->sb, a->result > 0, &a->op);
	if (a->pause < 0 || a->take < 0)
		a->result = MIN(a->pause, a->take);
	if (a->result >= 0)
		take_sweep(a->sb);
}

static void lost(struct sandbox *sb)
{
	auto_free char *tail = console_tail(&sb->res.console, LOST_CONSOLE_BYTES);
	auto_free char *why = str_printf("its VM was gone when vivd started%s%s",
					 tail[0] != '\0' ? "; console: " : "", tail);

	sandbox_stopped(sb, DEATH_LOST, why);
}

static void adopt_settle(const struct adoption *a)
{
	struct sandbox *sb = a->sb;

	sb->unsure = a->result < 0;
	if (a->result > 0) {
		if (sb->row.state == DB_PAUSING)
			sandbox_set_state(sb, DB_RUNNING, "");
		else if (a->take > 0)
			sandbox_set_state(sb, DB_RUNNING, NULL);
		adopted(sb);
	} else if (a->result == 0 && a->pause > 0) {
		come_to_rest(sb, DB_PAUSED);
	} else if (a->result == 0) {
		lost(sb);
	} else {
		log_warning("sandbox.unsure", kv_str("id", sb->row.id.s),
			    kv_str("error", a->op.err.msg));
		reap_later(sb->m);
	}
}

static void adopt_done(void *arg)
{
	auto_free struct adoption *a = arg;
	struct manager *m = a->sb->m;

	sandbox_end(a->sb);
	if (a->sb->doomed)
		sandbox_start_destroy(a->sb);
	else if (!m->closing) /* else it is the next daemon's */
		adopt_settle(a);
	manager_operation_ended(m);
}

void adopt_again(struct sandbox *sb)
{
	struct adoption *a = xcalloc(1, sizeof(*a));

	a->sb = sb;
	sandbox_begin(sb);
	work_submit(sb->m->loop, adopt_work, adopt_done, a);
}

/* Before the loop runs, so without a worker. */
static void adopt_now(struct sandbox *sb)
{
	struct adoption a = { .sb = sb };

	adopt_work(&a);
	adopt_settle(&a);
}

/* Finishes the undoing of a create, or the destroy, that an earlier daemon was in. */
static void finish_removal(struct sandbox *sb)
{
	unsigned leaks = plan_release(&create_plan, sb, true, sb->m->config.fault);

	log_info("sandbox.unwound", kv_str("id", sb->row.id.s),
		 kv_str("state", db_state_name(sb->row.state)), kv_u64("leaks", leaks));
	sandbox_drop(sb, leaks);
}

/* Undoes a resume or start that a killed daemon was in: nobody was given it. */
static void settle_waking(struct sandbox *sb)
{
	struct op op;
	int r;

	op_init(&op, ADOPT_TIMEOUT_MS, -1);
	r = statedir_adopt(sb, &op);
	if (r > 0)
		r = disk_exists(sb->m->disk, sb->res.dirfd, &op);
	if (r < 0)
		log_error("sandbox.unsure", kv_str("id", sb->row.id.s),
			  kv_str("error", op.err.msg));
	come_to_rest(sb, sb->row.state == DB_RESUMING || r == 0 ? DB_PAUSED : DB_STOPPED);
}

static void settle(struct sandbox *sb)
{
	switch (sb->row.state) {
	case DB_CREATING:
	case DB_DELETING:
	case DB_READY:
		finish_removal(sb);
		break;
	case DB_RUNNING:
	case DB_PAUSING:
		adopt_now(sb);
		break;
	case DB_RESUMING:
	case DB_STARTING:
		take_sweep(sb);
		settle_waking(sb);
		break;
	case DB_PAUSED:
		tidy(sb);
		if (sb->row.leaked)
			reap_later(sb->m);
		break;
	case DB_STOPPED:
		take_sweep(sb);
		if (sb->row.leaked)
			reap_later(sb->m);
		restart_later(sb);
		break;
	case DB_STATE_N:
		break;
	}
}

static bool is_known(const struct sandbox_id *id, void *arg)
{
	return sandbox_by_id(arg, id) != NULL;
}

static int sweep_unknown_cgroup(const char *name, void *arg)
{
	struct manager *m = arg;
	struct sandbox_id id;
	struct op op;

	if (id_parse(name, &id) == 0 && is_known(&id, m))
		return 0;
	op_init(&op, SWEEP_TIMEOUT_MS, -1);
	ignore_err(sweep_cgroup(m->cgroup_fd, name, &op)); /* it was logged; the doctor shows it */
	return 0;
}

static void sweep_run_entry(struct manager *m, const char *name)
{
	struct op op;

	op_init(&op, SWEEP_TIMEOUT_MS, -1);
	ignore_err(sweep_run_directory(m->run_fd, name, &op)); /* as above */
}

static void keep_state_entry(struct manager *m, const char *name)
{
	log_warning("data.without_intent", kv_str("id", name),
		    kv_str("directory", m->config.state_dir),
		    kv_str("hint", "kept; no row of the store owns it"));
}

static void each_unknown(struct manager *m, int dirfd,
			 void (*fn)(struct manager *m, const char *name))
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	struct sandbox_id id;
	int r = dir_open_at(dirfd, ".", 0, &d);

	while (r >= 0 && (r = dir_next(d, &entry)) > 0) {
		if (id_parse(entry->d_name, &id) == 0 && !is_known(&id, m))
			fn(m, entry->d_name);
	}
	if (r < 0)
		log_error("sweep.failed", kv_str("directory", strerror(-r)));
}

static void sweep(struct manager *m)
{
	struct op op;
	int r;

	/* VMMs end first: a slot's namespace goes when nobody is in it any more. */
	r = cgroup_list(m->cgroup_fd, sweep_unknown_cgroup, m);
	if (r < 0)
		log_error("sweep.failed", kv_str("cgroups", strerror(-r)));
	op_init(&op, SWEEP_TIMEOUT_MS, -1);
	ignore_err(sweep_slots(m->net, is_known, m, &op)); /* as above */
	each_unknown(m, m->run_fd, sweep_run_entry);
	each_unknown(m, m->sandboxes_fd, keep_state_entry);
}

int reconcile(struct manager *m, struct err *e)
{
	int r = db_sandbox_each(m->db, load_row, m, e);

	if (r < 0)
		return r;
	sweep(m);
	/* Backwards: settling may take a sandbox out of the table. */
	for (size_t i = m->all.n; i-- > 0;)
		settle(m->all.at[i]);
	return 0;
}
