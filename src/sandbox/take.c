/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A checkpoint of a running sandbox: the plan "checkpoint" (steps-save.c) runs on a worker, and the
 * row stays "running". The worker owns the VM meanwhile, so nobody watches it; but the guest can be
 * reached all the time (sandbox.goes_on), and notices only that it stood still for a moment.
 *
 * There are two kinds. One that is kept is the sandbox's next generation, in its `checkpoints/`. A
 * passing one, which a fork or a snapshot is made from, lies in `passing/` of its directory, an
 * owner of its own, so that nothing that reads generations ever meets it.
 *
 * A daemon that was killed in the middle leaves an unfinished checkpoint: the first step makes it,
 * the last one ends it. So whoever finds one knows that the guest may stand still, and lets it go
 * on (take_recover()). One that was finished but is not in the row yet becomes its generation then.
 */
#include "sandbox/take.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/listen.h"
#include "sandbox/room-internal.h"
#include "sandbox/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static const char passing_dir[] = "passing";

struct take {
	struct sandbox *sb;
	bool passes;
	struct op op;
	struct plan_timing timing;
	int result;
	struct passing passing;
	int (*use)(struct sandbox *sb, struct passing *p, void *arg, struct op *op);
	sandbox_checkpoint_fn done;
	void (*done_passing)(struct sandbox *sb, struct passing *p, const struct taken *t,
			     const struct err *e, void *arg);
	void *arg;
};

void passing_done(struct passing *p)
{
	fd_close(&p->ref.fd);
	fd_close(&p->owner_fd);
}

static int open_passing(int dirfd)
{
	int fd = openat(dirfd, passing_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* The owner of passing checkpoints. Return: descriptor; -errno with op->err set. */
static int make_passing(int dirfd, struct op *op)
{
	int fd;

	if (mkdirat(dirfd, passing_dir, 0700) < 0 && errno != EEXIST)
		return err_errno(&op->err, errno, "make the directory %s", passing_dir);
	fd = open_passing(dirfd);
	return fd < 0 ? err_errno(&op->err, -fd, "open the directory %s", passing_dir) : fd;
}

static int choose_owner(struct take *t)
{
	struct resources *res = &t->sb->res;

	res->draft_kept = !t->passes;
	if (!t->passes)
		return 0;
	res->draft_owner_fd = make_passing(res->dirfd, &t->op);
	return res->draft_owner_fd < 0 ? res->draft_owner_fd : 0;
}

/* What was made is in the resources: it moves to who wanted it. */
static int open_result(struct take *t)
{
	struct resources *res = &t->sb->res;
	struct passing *p = &t->passing;
	int fd;

	if (!t->passes)
		return 0;
	p->owner_fd = take_fd(&res->draft_owner_fd);
	fd = checkpoint_open(p->owner_fd, res->draft.generation, &p->ref.checkpoint, &t->op);
	p->ref.fd = MAX(fd, -1);
	return fd < 0 ? fd : 0;
}

/* The one before is of no more use, unless somebody keeps it. */
static void drop_previous(struct take *t)
{
	struct sandbox *sb = t->sb;
	struct op op;

	op_init(&op, 0, -1);
	if (!t->passes && checkpoint_tidy(sb->res.dirfd, sb->res.draft.generation, &op) < 0)
		log_error("checkpoint.tidy", kv_str("id", sb->row.id.s),
			  kv_str("error", op.err.msg));
}

static void take_work(void *arg)
{
	struct take *t = arg;
	unsigned back = 0;

	t->result = choose_owner(t);
	if (t->result == 0)
		t->result = plan_run(&checkpoint_plan, t->sb, &t->op, &t->timing, &back);
	if (back > 0)
		log_error("checkpoint.way_back", kv_str("id", t->sb->row.id.s),
			  kv_u64("failed", back));
	if (t->result == 0)
		t->result = open_result(t);
	if (t->result == 0 && t->use != NULL)
		t->result = t->use(t->sb, &t->passing, t->arg, &t->op);
	if (t->result == 0)
		drop_previous(t);
	fd_close(&t->sb->res.draft_owner_fd);
}

static uint64_t time_of(const struct plan_timing *timing, const char *first, const char *last)
{
	uint64_t ns = 0;
	bool within = false;

	for (size_t i = 0; i < timing->n; i++) {
		within = within || streq(timing->steps[i].name, first);
		if (within)
			ns += timing->steps[i].ns;
		if (streq(timing->steps[i].name, last))
			break;
	}
	return ns;
}

static void log_taken(const struct take *t, uint64_t stall_ns)
{
	struct kv fields[4 + PLAN_STEPS_MAX] = {
		kv_str("id", t->sb->row.id.s),
		kv_u64("generation", t->sb->res.draft.generation),
		kv_u64("stall_us", stall_ns / NS_PER_US),
		kv_u64("us", t->timing.total_ns / NS_PER_US),
	};
	size_t n = 4;

	for (size_t i = 0; i < t->timing.n; i++)
		fields[n++] = kv_u64(t->timing.steps[i].name, t->timing.steps[i].ns / NS_PER_US);
	log_event(LOG_LEVEL_INFO, "sandbox.checkpoint", fields, n);
}

static void note_generation(struct sandbox *sb)
{
	sb->row.generation = sb->res.draft.generation;
	sandbox_write(sb); /* if it cannot be, the next daemon finds the checkpoint */
}

static struct taken taken_of(const struct take *t)
{
	return (struct taken){
		.checkpoint = t->sb->res.draft,
		.stall_ns = time_of(&t->timing, "halt", "run"),
		.freeze_ns = time_of(&t->timing, "freeze", "freeze"),
		.total_ns = t->timing.total_ns,
	};
}

static void tell(struct take *t, const struct taken *taken)
{
	const struct err *e = t->result < 0 ? &t->op.err : NULL;

	if (t->passes)
		t->done_passing(t->sb, &t->passing, taken, e, t->arg);
	else
		t->done(t->sb, e == NULL ? taken : NULL, e, t->arg);
}

static void take_done(void *arg)
{
	struct take *t = arg;
	struct sandbox *sb = t->sb;
	struct manager *m = sb->m;
	struct taken taken = taken_of(t);

	sandbox_end(sb);
	watch_start(sb); /* tells at once if the VM is gone */
	if (t->result == 0) {
		log_taken(t, taken.stall_ns);
		if (!t->passes)
			note_generation(sb);
		merge_start(sb);
	} else {
		log_error("sandbox.checkpoint_failed", kv_str("id", sb->row.id.s),
			  kv_u64("op", t->op.id), kv_str("error", t->op.err.msg));
		journal_add(&sb->journal, 0, LOG_LEVEL_ERROR, "no checkpoint: %s", t->op.err.msg);
		err_wrap(&t->op.err, "checkpoint of sandbox %s", sb->row.id.s);
	}
	tell(t, &taken);
	passing_done(&t->passing);
	free(t);
	sandbox_idle(sb);
	manager_operation_ended(m);
}

static int check_can_take(const struct sandbox *sb, struct err *e)
{
	int r = manager_check_can_save(sb->m, e);

	if (r == 0)
		r = sandbox_check_usable(sb, e);
	return r < 0 ? r : room_check_disk(sb->m, e);
}

/* Takes a copy of what is wished for. */
static int begin(const struct take *wish, struct err *e)
{
	struct sandbox *sb = wish->sb;
	struct take *t;
	int r = check_can_take(sb, e);

	if (r < 0)
		return r;
	t = xcalloc(1, sizeof(*t));
	*t = *wish;
	t->passing = (struct passing)PASSING_INIT;
	op_init(&t->op, 0, -1);
	t->op.fault = sb->m->config.fault;
	watch_stop(sb);
	sandbox_begin(sb);
	sb->goes_on = true;
	disk_merge_done(&sb->res.merged);
	sb->res.merged = sb->merged;
	sb->merged = (struct disk_merge)DISK_MERGE_INIT;
	work_submit(sb->m->loop, take_work, take_done, t);
	return 0;
}

int sandbox_checkpoint(struct sandbox *sb, sandbox_checkpoint_fn done, void *arg, struct err *e)
{
	return begin(&(struct take){ .sb = sb, .done = done, .arg = arg }, e);
}

int take_passing(struct sandbox *sb,
		 int (*use)(struct sandbox *sb, struct passing *p, void *arg, struct op *op),
		 void (*done)(struct sandbox *sb, struct passing *p, const struct taken *t,
			      const struct err *e, void *arg),
		 void *arg, struct err *e)
{
	return begin(
		&(struct take){
			.sb = sb, .passes = true, .use = use, .done_passing = done, .arg = arg },
		e);
}

/* Whether a killed daemon was making a checkpoint of either kind. Return: 1; 0; -errno. */
static int was_taking(int dirfd)
{
	auto_close int passing = open_passing(dirfd);
	int r = checkpoint_unfinished(dirfd);

	if (r != 0 || passing == -ENOENT)
		return r;
	return passing < 0 ? passing : checkpoint_unfinished(passing);
}

static int go_on(struct sandbox *sb, struct op *op)
{
	int r = vmm_running(sb->res.vmm) ? 0 : vmm_resume(sb->res.vmm, op);

	return r < 0 ? r : listen_thaw(sb, op);
}

/* One that was made since the sandbox runs is where it is now. */
static int adopt_newest(struct sandbox *sb, struct op *op)
{
	struct generations known = { 0 };
	int r = checkpoint_list(sb->res.dirfd, &known, op);
	uint64_t newest = known.n > 0 ? known.at[known.n - 1] : 0;
	struct checkpoint c;

	generations_done(&known);
	if (r < 0 || newest <= sb->row.generation)
		return r;
	if (checkpoint_read(sb->res.dirfd, newest, &c) < 0 || !c.kept ||
	    c.created_ms < sb->row.started_ms)
		return 0;
	sb->row.generation = newest;
	return 1;
}

int take_recover(struct sandbox *sb, bool vm_lives, struct op *op)
{
	int r = sb->res.dirfd < 0 ? 0 : was_taking(sb->res.dirfd);

	if (r < 0)
		return err_errno(&op->err, -r, "look for an unfinished checkpoint");
	if (r > 0 && vm_lives)
		r = go_on(sb, op);
	if (r >= 0 && sb->res.dirfd >= 0)
		r = checkpoint_abort(sb->res.dirfd, op);
	if (r >= 0 && sb->res.dirfd >= 0)
		r = disk_sweep(sb->res.dirfd);
	if (r < 0 && !err_is_set(&op->err))
		err_errno(&op->err, -r, "remove a layer that was half made");
	if (r < 0 || sb->res.dirfd < 0)
		return r;
	return adopt_newest(sb, op);
}

static void on_idle(struct sandbox *sb, const struct err *gone, void *arg)
{
	(void)arg;
	if (gone == NULL)
		take_tidy(sb);
}

void take_tidy(struct sandbox *sb)
{
	auto_free char *owner = str_printf("%s/%s", sb->row.id.s, passing_dir);
	auto_free char *all = str_printf("%s/checkpoints", owner);

	if (sb->busy) { /* it may be making another one */
		sandbox_when_idle(sb, on_idle, NULL);
		return;
	}
	/* Unless there are others in it, whose users will come here, too. */
	unlinkat(sb->m->sandboxes_fd, all, AT_REMOVEDIR);
	unlinkat(sb->m->sandboxes_fd, owner, AT_REMOVEDIR);
}

void take_sweep(struct sandbox *sb)
{
	auto_free char *path = str_printf("%s/%s", sb->row.id.s, passing_dir);
	int r = file_remove_tree_at(sb->m->sandboxes_fd, path);

	if (r < 0)
		log_error("checkpoint.sweep", kv_str("id", sb->row.id.s),
			  kv_str("error", strerrordesc_np(-r)));
}
