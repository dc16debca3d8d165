/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Pause and stop put a sandbox to rest. The row says "pausing" first; streams into it are reset; a
 * worker saves it (steps-save.c) and then releases all of the host that it held. A failure before
 * it is saved leads back to "running". From the commit of the checkpoint on there is no way back
 * and none is needed: what fails then is a leak that the reaper tries again, and the sandbox is
 * paused.
 *
 * A client that goes away cancels nothing: the operation is the daemon's.
 *
 * What a daemon that was killed meanwhile left is decided by what is there (pause_recover()): with
 * a whole checkpoint and no VM it is paused; with a VM it runs on, and an unfinished or unused
 * checkpoint goes.
 */
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/steps.h"

#include <errno.h>
#include <stdlib.h>

struct pause {
	struct sandbox *sb;
	const struct plan *plan; /* pause_plan or stop_plan */
	struct op op;
	struct plan_timing timing;
	int result;
	unsigned leaks;
	uint64_t outdated; /* generation that the new one replaces; 0 = none */
	sandbox_done_fn done;
	void *arg;
};

static bool keeps_memory(const struct pause *p)
{
	return p->plan == &pause_plan;
}

/* The checkpoint holds the disk; while there is no VM nothing else is needed. */
static void release_disk(struct sandbox *sb, unsigned *leaks)
{
	struct op op;

	op_init(&op, 0, -1);
	if (*leaks > 0 || disk_release(sb->m->disk, sb->res.dirfd, &op) == 0)
		return;
	log_error("pause.disk", kv_str("id", sb->row.id.s), kv_str("error", op.err.msg));
	(*leaks)++;
}

static void pause_work(void *arg)
{
	struct pause *p = arg;
	struct sandbox *sb = p->sb;
	unsigned back = 0;

	p->result = plan_run(p->plan, sb, &p->op, &p->timing, &back);
	if (back > 0)
		log_error("pause.way_back", kv_str("id", sb->row.id.s), kv_u64("failed", back));
	if (p->result < 0)
		return;
	p->leaks = plan_release(&create_plan, sb, false, p->op.fault);
	if (keeps_memory(p))
		release_disk(sb, &p->leaks);
}

/* What the new checkpoint made useless: the one before, unless somebody made it by hand. */
static void tidy_work(void *arg)
{
	struct pause *p = arg;
	struct checkpoint c;
	struct op op;

	op_init(&op, 0, -1);
	{
		auto_close int fd = checkpoint_open(p->sb->res.dirfd, p->outdated, &c, &op);

		if (fd >= 0 && c.kept)
			return;
	}
	if (checkpoint_remove(p->sb->res.dirfd, p->outdated, &op) < 0)
		log_error("pause.tidy", kv_str("id", p->sb->row.id.s), kv_str("error", op.err.msg));
}

static void tidy_done(void *arg)
{
	struct pause *p = arg;
	struct sandbox *sb = p->sb;
	struct manager *m = sb->m;

	free(p);
	sandbox_end(sb);
	sandbox_idle(sb);
	manager_operation_ended(m);
}

/* One line with the time of each phase, in microseconds. */
static void log_timing(const struct sandbox *sb, const char *event)
{
	struct kv fields[2 + PLAN_STEPS_MAX] = {
		kv_str("id", sb->row.id.s),
		kv_u64("us", sb->timing.total_ns / 1000),
	};
	size_t n = 2;

	for (size_t i = 0; i < sb->timing.n; i++)
		fields[n++] = kv_u64(sb->timing.steps[i].name, sb->timing.steps[i].ns / 1000);
	log_event(LOG_LEVEL_INFO, event, fields, n);
}

static void paused(struct pause *p)
{
	struct sandbox *sb = p->sb;

	sb->timing = p->timing;
	sb->row.leaked = p->leaks > 0;
	if (keeps_memory(p)) {
		p->outdated = sb->row.generation;
		sb->row.generation = sb->res.draft.generation;
	}
	sandbox_set_state(sb, keeps_memory(p) ? DB_PAUSED : DB_STOPPED, "");
	log_timing(sb, keeps_memory(p) ? "sandbox.paused" : "sandbox.stopped_by_hand");
	if (p->leaks > 0)
		reap_later(sb->m);
}

static void pause_done(void *arg)
{
	struct pause *p = arg;
	struct sandbox *sb = p->sb;

	if (p->result == 0) {
		paused(p);
	} else {
		log_error("sandbox.pause_failed", kv_str("id", sb->row.id.s),
			  kv_u64("op", p->op.id), kv_str("error", p->op.err.msg));
		err_wrap(&p->op.err, "pause sandbox %s", sb->row.id.s);
		sandbox_set_state(sb, DB_RUNNING, p->op.err.msg);
		watch_start(sb); /* tells at once if the VM is gone */
	}
	if (p->done != NULL)
		p->done(sb, p->result < 0 ? &p->op.err : NULL, p->arg);
	if (p->outdated != 0)
		work_submit(sb->m->loop, tidy_work, tidy_done, p);
	else
		tidy_done(p);
}

static int check_can_rest(const struct sandbox *sb, const struct plan *plan, struct err *e)
{
	if (sb->m->closing)
		return err_set(e, ERR_EXHAUSTED,
			       "vivd is shutting down; try again when it is back");
	if (sb->row.state == DB_PAUSED || sb->row.state == DB_STOPPED)
		return err_set(e, ERR_CONFLICT, "sandbox %s is %s already", sb->row.id.s,
			       db_state_name(sb->row.state));
	if (sandbox_check_running(sb, e) < 0)
		return -EBUSY;
	if (sb->changing)
		return err_set(e, ERR_CONFLICT, "sandbox %s is being changed; try again",
			       sb->row.id.s);
	if (plan == &pause_plan && (vmm_caps(sb->m->vmm) & VMM_CAP_SNAPSHOT) == 0)
		return err_set(e, ERR_UNSUPPORTED, "%s cannot save the memory of a sandbox",
			       vmm_name(sb->m->vmm));
	return 0;
}

static int rest(struct sandbox *sb, const struct plan *plan, sandbox_done_fn done, void *arg,
		struct err *e)
{
	struct pause *p;
	int r = check_can_rest(sb, plan, e);

	if (r < 0)
		return r;
	if (!sandbox_set_state(sb, DB_PAUSING, NULL)) {
		sandbox_set_state(sb, DB_RUNNING, NULL);
		return err_set(e, ERR_SYSTEM,
			       "sandbox %s: the store cannot be written; the log of vivd says why",
			       sb->row.id.s);
	}
	p = xcalloc(1, sizeof(*p));
	*p = (struct pause){ .sb = sb, .plan = plan, .done = done, .arg = arg };
	op_init(&p->op, 0, -1);
	p->op.fault = sb->m->config.fault;
	watch_stop(sb);
	egress_detach(sb);
	proxy_abort_all(&sb->streams);
	sandbox_begin(sb);
	work_submit(sb->m->loop, pause_work, pause_done, p);
	return 0;
}

int sandbox_pause(struct sandbox *sb, sandbox_done_fn done, void *arg, struct err *e)
{
	return rest(sb, &pause_plan, done, arg, e);
}

int sandbox_stop(struct sandbox *sb, sandbox_done_fn done, void *arg, struct err *e)
{
	return rest(sb, &stop_plan, done, arg, e);
}

/* The newest whole checkpoint that the row does not know of yet. Return: it; 0 none; -errno. */
static int find_uncommitted(struct sandbox *sb, uint64_t *out, struct op *op)
{
	struct generations known = { 0 };
	int r = checkpoint_list(sb->res.dirfd, &known, op);

	*out = known.n > 0 && known.at[known.n - 1] > sb->row.generation ? known.at[known.n - 1]
									 : 0;
	generations_done(&known);
	return r;
}

int pause_recover(struct sandbox *sb, bool vm_lives, struct op *op)
{
	uint64_t newest = 0;
	int r = find_uncommitted(sb, &newest, op);

	if (r < 0)
		return r;
	if (!vm_lives && newest != 0) {
		sb->row.generation = newest;
		return 1;
	}
	r = checkpoint_abort(sb->res.dirfd, op);
	if (r == 0 && newest != 0)
		r = checkpoint_remove(sb->res.dirfd, newest, op);
	if (r == 0 && vm_lives && !vmm_running(sb->res.vmm))
		r = vmm_resume(sb->res.vmm, op);
	if (r == 0 && vm_lives)
		r = guest_thaw(sb->res.slot.addr, vmm_pidfd(sb->res.vmm), op);
	return r;
}
