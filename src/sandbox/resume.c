/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Going on with a sandbox: a paused one from its checkpoint, or, if only its disk is wanted, and a
 * stopped one, by a boot. Whoever asks while another operation is under way waits for its end, and
 * is served by what is then: of two that ask at once one resumes, and both get the sandbox.
 *
 * Until the row says "running" nothing is lost by a failure or a kill: the checkpoint, or the
 * stopped disk, is as it was.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/accel-internal.h"
#include "sandbox/room-internal.h"
#include "sandbox/steps.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

enum { WAKE_TIMEOUT_LEAST_S = 300 };

struct resume {
	struct sandbox *sb;
	const struct plan *plan; /* resume_plan or start_plan */
	bool link_disk;          /* a start whose disk is the checkpoint's */
	bool taken;              /* it was taken over: the sandbox is stopped, no longer paused */
	bool clears;             /* what there is of a VM goes first */
	bool keeps_deadline;
	bool unasked; /* its restart policy wants it */
	struct op op;
	struct plan_timing timing;
	int result;
	unsigned leaks;
	uint64_t timeout_s; /* 0 = no deadline */
	sandbox_resume_fn done;
	void *arg;
};

/* Takes over the disk of the checkpoint: from here on the sandbox is stopped, not paused. */
static int take_disk(struct sandbox *sb, struct op *op)
{
	struct disk_spec spec = disk_spec_of(sb);
	int r = disk_release(sb->m->disk, sb->res.dirfd, op);

	if (r == 0)
		r = disk_clone(sb->m->disk, sb->res.origin_fd, &spec, op);
	return r < 0 ? r : disk_sync(sb->m->disk, sb->res.dirfd, op);
}

int restore_check_host(const struct manager *m, const struct checkpoint *c, const char *advice,
		       struct err *e)
{
	const char *saved = checkpoint_vmm_version(c, vmm_name(m->vmm));
	char cpu[sizeof(c->cpu)];

	accel_cpu(c->acceleration, cpu, sizeof(cpu));
	if (saved == NULL || !vmm_restores(m->vmm, m->vmm_version, saved))
		return err_set(e, ERR_CONFLICT,
			       "its memory was saved by %s, and this host has %s %s%s", c->vmm,
			       vmm_name(m->vmm), m->vmm_version, advice);
	if (!streq(c->cpu, cpu))
		return err_set(e, ERR_CONFLICT,
			       "its memory was saved on the CPU %s, and this host has %s%s", c->cpu,
			       cpu, advice);
	return 0;
}

int restore_check_origin(const struct sandbox *sb, const struct checkpoint *c, struct err *e)
{
	if (c->cpus != sb->row.cpus || c->memory_mib != sb->row.memory_mib ||
	    !streq(c->acceleration, sb->row.acceleration))
		return err_set(e, ERR_INVALID, "checkpoint %ju is of a sandbox of another kind",
			       (uintmax_t)c->generation);
	return restore_check_host(sb->m, c, "; `viv start` boots it from its disk", e);
}

static int open_origin(struct resume *r)
{
	struct sandbox *sb = r->sb;
	struct checkpoint origin;
	int fd;

	if (r->plan != &resume_plan) {
		sb->res.origin_fd = checkpoint_open_disk(sb->res.dirfd, sb->row.generation, &r->op);
		return MIN(sb->res.origin_fd, 0);
	}
	fd = checkpoint_open(sb->res.dirfd, sb->row.generation, &origin, &r->op);
	if (fd < 0)
		return fd;
	sandbox_set_origin(sb, fd, &origin);
	return restore_check_origin(sb, &origin, &r->op.err);
}

/* A daemon that was started since the sandbox came to rest has not opened it yet. */
static int open_dir(struct sandbox *sb, struct op *op)
{
	int r = sb->res.dirfd >= 0 ? 1 : statedir_adopt(sb, op);

	if (r == 0)
		return err_set(&op->err, ERR_SYSTEM, "the directory of sandbox %s is gone",
			       sb->row.id.s);
	return r < 0 ? r : 0;
}

/* What nobody keeps, and the row does not name, is of no use: no sandbox that runs has any. */
static void drop_others(struct sandbox *sb)
{
	struct op op;

	op_init(&op, 0, -1);
	if (checkpoint_tidy(sb->res.dirfd, sb->row.generation, &op) < 0)
		log_error("checkpoint.tidy", kv_str("id", sb->row.id.s),
			  kv_str("error", op.err.msg));
}

static int clear(struct resume *r)
{
	r->leaks = plan_release(&create_plan, r->sb, false, r->op.fault);
	if (r->leaks == 0)
		return 0;
	return err_set(&r->op.err, ERR_SYSTEM, "%u resources of its VM could not be released",
		       r->leaks);
}

static int prepare(struct resume *r)
{
	int ready = r->clears ? clear(r) : 0;

	if (ready == 0)
		ready = open_dir(r->sb, &r->op);
	if (ready < 0)
		return ready;
	drop_others(r->sb);
	if (r->plan == &start_plan && !r->link_disk)
		return 0;
	if (open_origin(r) < 0)
		return -EINVAL;
	if (!r->link_disk)
		return 0;
	r->taken = take_disk(r->sb, &r->op) == 0;
	return r->taken ? 0 : -EIO;
}

static void resume_work(void *arg)
{
	struct resume *r = arg;

	r->result = prepare(r);
	if (r->result == 0)
		r->result = plan_run(r->plan, r->sb, &r->op, &r->timing, &r->leaks);
	durable_end(&r->sb->res);
	fd_close(&r->sb->res.origin_fd);
}

static int store_failed(const struct sandbox *sb, struct err *e)
{
	return err_set(e, ERR_SYSTEM,
		       "sandbox %s: the store cannot be written; the log of vivd says why",
		       sb->row.id.s);
}

/* Return: whether the store has it. */
static bool set_running(struct resume *r)
{
	struct sandbox *sb = r->sb;
	uint64_t now_ms = clock_realtime_ms();

	sb->timing = r->timing;
	sb->row.started_ms = now_ms;
	if (!r->keeps_deadline)
		sb->row.end_ms = r->timeout_s != 0 ? now_ms + r->timeout_s * MS_PER_S : 0;
	sb->row.restarting = false;
	if (!r->unasked)
		sb->row.restart_tries = 0;
	sandbox_note_versions(sb);
	if (sb->res.start_fault != NULL)
		return sandbox_set_state(sb, DB_RUNNING, sb->res.start_fault);
	/* What it ended of stays to be seen: nobody was there when it was started again. */
	return sandbox_set_state(sb, DB_RUNNING, r->unasked ? NULL : "");
}

static void log_resumed(const struct sandbox *sb)
{
	struct kv fields[2 + PLAN_STEPS_MAX] = {
		kv_str("id", sb->row.id.s),
		kv_u64("us", sb->timing.total_ns / NS_PER_US),
	};
	size_t n = 2;

	for (size_t i = 0; i < sb->timing.n; i++)
		fields[n++] = kv_u64(sb->timing.steps[i].name, sb->timing.steps[i].ns / NS_PER_US);
	log_event(LOG_LEVEL_INFO, "sandbox.resumed", fields, n);
}

static void failed(struct resume *r)
{
	struct sandbox *sb = r->sb;
	bool paused = r->plan == &resume_plan || (r->link_disk && !r->taken);

	log_error("sandbox.resume_failed", kv_str("id", sb->row.id.s), kv_u64("op", r->op.id),
		  kv_str("error", r->op.err.msg));
	err_wrap(&r->op.err, "%s sandbox %s", paused ? "resume" : "start", sb->row.id.s);
	sb->row.leaked = r->leaks > 0;
	sandbox_set_state(sb, paused ? DB_PAUSED : DB_STOPPED, r->op.err.msg);
	if (r->leaks > 0)
		reap_later(sb->m);
}

static void finish(void *arg)
{
	struct resume *r = arg;
	struct sandbox *sb = r->sb;
	struct manager *m = sb->m;

	sandbox_end(sb);
	if (r->result == 0) {
		watch_start(sb);
		log_resumed(sb);
	} else {
		failed(r);
	}
	r->done(sb, r->result == 0, r->result < 0 ? &r->op.err : NULL, r->arg);
	free(r);
	sandbox_idle(sb);
	manager_operation_ended(m);
}

/* The VM runs, but a daemon that is killed now would not know of it, and take it away from whoever
 * was given it: so nobody is. */
static void undo_work(void *arg)
{
	struct resume *r = arg;
	struct sandbox *sb = r->sb;
	struct op op;

	op_init(&op, 0, -1);
	r->leaks = plan_release(&create_plan, sb, false, r->op.fault);
	if (r->plan != &resume_plan || r->leaks > 0)
		return;
	if (disk_release(sb->m->disk, sb->res.dirfd, &op) < 0)
		log_error("resume.undo", kv_str("id", sb->row.id.s), kv_str("error", op.err.msg));
}

static void resume_done(void *arg)
{
	struct resume *r = arg;
	struct sandbox *sb = r->sb;

	if (r->result < 0 || set_running(r)) {
		finish(r);
		return;
	}
	r->result = store_failed(sb, &r->op.err);
	sandbox_set_state(sb, DB_PAUSING, NULL);
	work_submit(sb->m->loop, undo_work, finish, r);
}

static void submit(struct resume *r)
{
	struct resources *res = &r->sb->res;

	str_copy(res->start_from, sizeof(res->start_from), sandbox_template(r->sb));
	free(take_ptr(&res->start_fault));
	op_init(&r->op, 0, -1);
	r->op.fault = r->sb->m->config.fault;
	sandbox_begin(r->sb);
	work_submit(r->sb->m->loop, resume_work, resume_done, r);
}

/* One that runs has its place. What little it writes to the disk is no reason to leave it there. */
static int check_room(struct sandbox *sb, struct err *e)
{
	const struct room_wish wish = { .vms = 1, .memory_mib = sb->row.memory_mib, .asked = true };

	return sb->row.state == DB_RUNNING ? 0 : room_check(sb->m, &wish, e);
}

int resume_at(struct sandbox *sb, uint64_t generation, const uint64_t *timeout_s,
	      sandbox_resume_fn done, void *arg, struct err *e)
{
	enum db_state state = sb->row.state;
	uint64_t old = sb->row.generation;
	struct resume *r;

	if (check_room(sb, e) < 0)
		return -EAGAIN;
	sb->row.generation = generation;
	if (!sandbox_set_state(sb, DB_RESUMING, NULL)) {
		sb->row.generation = old;
		sandbox_set_state(sb, state, NULL);
		return store_failed(sb, e);
	}
	egress_detach(sb);
	proxy_abort_all(&sb->streams, ESHUTDOWN);
	r = xcalloc(1, sizeof(*r));
	*r = (struct resume){ .sb = sb,
			      .plan = &resume_plan,
			      .clears = true,
			      .keeps_deadline = timeout_s == NULL,
			      .timeout_s = timeout_s != NULL ? *timeout_s : 0,
			      .done = done,
			      .arg = arg };
	submit(r);
	return 0;
}

/* Takes a copy of what is wished for, a plan and whether the disk is linked apart. */
static int begin(const struct resume *wish, bool memory, struct err *e)
{
	struct sandbox *sb = wish->sb;
	bool paused = sb->row.state == DB_PAUSED;
	struct resume *r;

	if (check_room(sb, e) < 0)
		return -EAGAIN;
	r = xcalloc(1, sizeof(*r));
	*r = *wish;
	r->plan = paused && memory ? &resume_plan : &start_plan;
	r->link_disk = paused && !memory;
	restart_forget(sb);
	if (!sandbox_set_state(sb, paused && memory ? DB_RESUMING : DB_STARTING, NULL)) {
		sandbox_set_state(sb, paused ? DB_PAUSED : DB_STOPPED, NULL);
		free(r);
		return store_failed(sb, e);
	}
	submit(r);
	return 0;
}

/* Somebody who waits for the end of another operation. */
struct waiting {
	bool wake; /* sandbox_wake() */
	bool memory;
	uint64_t timeout_s;
	sandbox_resume_fn done;
	void *arg;
};

static void on_idle(struct sandbox *sb, const struct err *gone, void *arg)
{
	struct waiting w = *(struct waiting *)arg;
	struct err e = { 0 };

	free(arg);
	if (gone != NULL)
		w.done(NULL, false, gone, w.arg);
	else if ((w.wake ? sandbox_wake(sb, w.done, w.arg, &e)
			 : sandbox_resume(sb, w.memory, w.timeout_s, w.done, w.arg, &e)) < 0)
		w.done(sb, false, &e, w.arg);
}

static void wait_idle(struct sandbox *sb, const struct waiting *wanted)
{
	struct waiting *w = xcalloc(1, sizeof(*w));

	*w = *wanted;
	sandbox_when_idle(sb, on_idle, w);
}

int sandbox_resume(struct sandbox *sb, bool memory, uint64_t timeout_s, sandbox_resume_fn done,
		   void *arg, struct err *e)
{
	int r = manager_check_open(sb->m, e);

	if (r < 0)
		return r;
	if (sb->doomed || sb->row.state == DB_DELETING)
		return err_set(e, ERR_NOT_FOUND, "sandbox %s is being removed", sb->row.id.s);
	if (sb->busy) {
		wait_idle(sb, &(struct waiting){ .memory = memory,
						 .timeout_s = timeout_s,
						 .done = done,
						 .arg = arg });
		return 0;
	}
	if (sb->row.state == DB_RUNNING && !sb->unsure) {
		done(sb, false, NULL, arg);
		return 0;
	}
	if (sb->row.leaked || sb->unsure)
		return err_set(
			e, ERR_CONFLICT,
			"sandbox %s: something of its last VM is not released yet; vivd goes "
			"on trying, try again",
			sb->row.id.s);
	return begin(&(struct resume){ .sb = sb, .timeout_s = timeout_s, .done = done, .arg = arg },
		     memory, e);
}

int resume_unasked(struct sandbox *sb, sandbox_resume_fn done, void *arg, struct err *e)
{
	return begin(&(struct resume){ .sb = sb,
				       .keeps_deadline = true,
				       .unasked = true,
				       .done = done,
				       .arg = arg },
		     false, e);
}

int sandbox_wake(struct sandbox *sb, sandbox_resume_fn done, void *arg, struct err *e)
{
	const struct db_sandbox *row = &sb->row;
	uint64_t timeout_s =
		row->timeout_s == 0 ? 0 : MAX(row->timeout_s, (uint64_t)WAKE_TIMEOUT_LEAST_S);

	if (!row->auto_resume || sb->doomed ||
	    (row->state != DB_PAUSED && row->state != DB_PAUSING && row->state != DB_RESUMING &&
	     row->state != DB_RUNNING))
		return err_set(e, ERR_NOT_FOUND, "sandbox %s is %s, and requests do not wake it",
			       row->id.s, db_state_name(row->state));
	if (!sb->busy || sb->m->closing)
		return sandbox_resume(sb, true, timeout_s, done, arg, e);
	wait_idle(sb, &(struct waiting){ .wake = true, .done = done, .arg = arg });
	return 0;
}
