/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Pause and stop put a sandbox to rest. The row says "pausing" first; streams into it may end, or
 * are reset (drain.c); a worker saves it (steps-save.c) and then releases all of the host that it
 * held. A failure before it is saved leads back to "running"; if the way back fails, too, it is
 * tried again as after a restart (adopt_again()). From the commit of the checkpoint on there is no
 * way back and none is needed: what fails then is a leak that the reaper tries again, and the
 * sandbox is paused.
 *
 * A client that goes away cancels nothing: the operation is the daemon's. Only the removal of the
 * sandbox ends it early, since nobody wants what it saves: by the way back, before the commit.
 *
 * What a daemon that was killed meanwhile left is decided by what is there (pause_recover()): with
 * a whole checkpoint and no VM it is paused; with a VM it runs on, and an unfinished or unused
 * checkpoint goes.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/listen.h"
#include "sandbox/room-internal.h"
#include "sandbox/steps.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

enum { MERGE_LAYERS = DISK_CHAIN_MAX / 2 };

struct pause {
	struct sandbox *sb;
	const struct plan *plan; /* pause_plan or stop_plan */
	struct op op;
	struct plan_timing timing;
	int result;
	unsigned leaks;
	unsigned stuck; /* steps of the way back that failed */
	bool tidy;      /* there is a new checkpoint */
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
	uint64_t start_ns;

	p->result = plan_run(p->plan, sb, &p->op, &p->timing, &p->stuck);
	if (p->result < 0)
		return;
	start_ns = clock_now_ns();
	p->leaks = plan_release(&create_plan, sb, false, p->op.fault);
	if (keeps_memory(p))
		release_disk(sb, &p->leaks);
	plan_timing_add(&p->timing, "release", clock_now_ns() - start_ns, 0);
}

/* Each resume puts a layer on the disk. They are merged long before there are too many, while
 * nobody waits: then it ends, and the next pause tries again. What there is then is sealed. */
static int tidy_disk(struct sandbox *sb, struct op *op)
{
	struct disk_spec spec = disk_spec_of(sb);
	auto_close int fd = checkpoint_open_disk(sb->res.dirfd, sb->res.draft.generation, op);
	int r = fd < 0 ? fd : 0;

	spec.dirfd = fd;
	if (fd >= 0 && disk_layers(sb->m->disk, fd) >= MERGE_LAYERS) {
		r = disk_merge(sb->m->disk, &spec, op);
		if (r == 0)
			log_info("sandbox.disk_merged", kv_str("id", sb->row.id.s));
	}
	return r < 0 ? r : disk_seal(sb->m->disk, &spec, 0, op);
}

/* What the new checkpoint made useless goes. */
static void tidy_work(void *arg)
{
	struct pause *p = arg;
	struct sandbox *sb = p->sb;
	struct op op;

	memory_saving_free(take_ptr(&sb->res.saving)); /* faster without a VM, and nobody waits */
	op_init(&op, 0, sb->cancel_fd);
	if ((checkpoint_tidy(sb->res.dirfd, sb->res.draft.generation, &op) < 0 ||
	     tidy_disk(sb, &op) < 0) &&
	    op.err.kind != ERR_CANCELLED)
		log_error("pause.tidy", kv_str("id", sb->row.id.s), kv_str("error", op.err.msg));
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
	const struct plan_timing *t = &sb->pause_timing;
	struct kv fields[2 + PLAN_STEPS_MAX] = {
		kv_str("id", sb->row.id.s),
		kv_u64("us", t->total_ns / NS_PER_US),
	};
	size_t n = 2;

	for (size_t i = 0; i < t->n; i++)
		fields[n++] = kv_u64(t->steps[i].name, t->steps[i].ns / NS_PER_US);
	log_event(LOG_LEVEL_INFO, event, fields, n);
}

static void paused(struct pause *p)
{
	struct sandbox *sb = p->sb;

	sb->pause_timing = p->timing;
	sb->row.leaked = p->leaks > 0;
	if (keeps_memory(p)) {
		p->tidy = true;
		sb->row.generation = sb->res.draft.generation;
	}
	sandbox_set_state(sb, keeps_memory(p) ? DB_PAUSED : DB_STOPPED, "");
	log_timing(sb, keeps_memory(p) ? "sandbox.paused" : "sandbox.stopped_by_hand");
	if (p->leaks > 0)
		reap_later(sb->m);
}

/* It runs on; or, if a part of the way back failed, that is gone again until it does. */
static void not_paused(struct pause *p)
{
	struct sandbox *sb = p->sb;

	log_error("sandbox.pause_failed", kv_str("id", sb->row.id.s), kv_u64("op", p->op.id),
		  kv_u64("stuck", p->stuck), kv_str("error", p->op.err.msg));
	err_wrap(&p->op.err, "pause sandbox %s", sb->row.id.s);
	if (sb->doomed && p->op.err.kind == ERR_CANCELLED) {
		p->op.err = (struct err){ 0 };
		err_set(&p->op.err, ERR_NOT_FOUND, "sandbox %s is being removed", sb->row.id.s);
	}
	sb->unsure = p->stuck > 0;
	sandbox_set_state(sb, sb->unsure ? DB_PAUSING : DB_RUNNING, p->op.err.msg);
	if (sb->unsure)
		reap_later(sb->m);
	else
		watch_start(sb); /* tells at once if the VM is gone */
}

static void pause_done(void *arg)
{
	struct pause *p = arg;
	struct sandbox *sb = p->sb;

	if (p->result == 0) {
		paused(p);
	} else {
		not_paused(p);
	}
	if (p->done != NULL)
		p->done(sb, p->result < 0 ? &p->op.err : NULL, p->arg);
	if (!p->tidy) {
		tidy_done(p);
		return;
	}
	fd_close(&sb->cancel_fd);
	sb->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (sandbox_is_awaited(sb))
		sandbox_hurry(sb);
	work_submit(sb->m->loop, tidy_work, tidy_done, p);
}

static void on_drained(uint64_t ns, void *arg)
{
	struct pause *p = arg;
	struct sandbox *sb = p->sb;

	plan_timing_add(&p->timing, "drain", ns, 0);
	if (!sb->doomed) {
		work_submit(sb->m->loop, pause_work, pause_done, p);
		return;
	}
	/* Somebody removed it meanwhile: there is nothing to save it for. */
	p->result = err_set(&p->op.err, ERR_NOT_FOUND, "it is being removed");
	pause_done(p);
}

static int check_can_rest(const struct sandbox *sb, const struct plan *plan, struct err *e)
{
	int r;

	if (sb->row.state == DB_PAUSED || sb->row.state == DB_STOPPED)
		return err_set(e, ERR_CONFLICT, "sandbox %s is %s already", sb->row.id.s,
			       db_state_name(sb->row.state));
	r = sandbox_check_usable(sb, e);
	if (r == 0 && plan == &pause_plan)
		r = manager_check_can_save(sb->m, e);
	return r;
}

/* One that can rest (check_can_rest()). */
static int rest(struct sandbox *sb, const struct plan *plan, sandbox_done_fn done, void *arg,
		struct err *e)
{
	struct pause *p;

	if (!sandbox_set_state(sb, DB_PAUSING, NULL)) {
		sandbox_set_state(sb, DB_RUNNING, NULL);
		return err_set(e, ERR_SYSTEM,
			       "sandbox %s: the store cannot be written; the log of vivd says why",
			       sb->row.id.s);
	}
	p = xcalloc(1, sizeof(*p));
	*p = (struct pause){ .sb = sb, .plan = plan, .done = done, .arg = arg };
	sb->res.draft_kept = false;
	watch_stop(sb);
	egress_detach(sb);
	sandbox_begin(sb);
	fd_close(&sb->cancel_fd);
	sb->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); /* -1: then it is waited for */
	op_init(&p->op, 0, sb->cancel_fd);
	p->op.fault = sb->m->config.fault;
	drain_start(sb, on_drained, p);
	return 0;
}

int pause_anyway(struct sandbox *sb, sandbox_done_fn done, void *arg, struct err *e)
{
	int r = check_can_rest(sb, &pause_plan, e);

	return r < 0 ? r : rest(sb, &pause_plan, done, arg, e);
}

int sandbox_pause(struct sandbox *sb, sandbox_done_fn done, void *arg, struct err *e)
{
	int r = check_can_rest(sb, &pause_plan, e);

	if (r == 0)
		r = room_check_disk(sb->m, e);
	return r < 0 ? r : rest(sb, &pause_plan, done, arg, e);
}

int sandbox_stop(struct sandbox *sb, sandbox_done_fn done, void *arg, struct err *e)
{
	int r = check_can_rest(sb, &stop_plan, e);

	return r < 0 ? r : rest(sb, &stop_plan, done, arg, e);
}

/* The whole checkpoint that the pause made, and the row does not know of yet: the only one that
 * nobody keeps, since resume.c leaves no other. Return: it; 0 none; -errno, as out of @out. */
static int find_uncommitted(struct sandbox *sb, uint64_t *out, struct op *op)
{
	struct generations known = { 0 };
	struct checkpoint c;
	int r = checkpoint_list(sb->res.dirfd, &known, op);

	*out = 0;
	vec_foreach (generation, &known) {
		if (*generation != sb->row.generation &&
		    checkpoint_read(sb->res.dirfd, *generation, &c) == 0 && !c.kept)
			*out = *generation;
	}
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
		r = listen_thaw(sb, op);
	return r;
}
