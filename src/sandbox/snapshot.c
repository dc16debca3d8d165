/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A snapshot of a running sandbox: a passing checkpoint (sandbox/take.h), which becomes the
 * snapshot's by a rename while the sandbox is still busy, so that it cannot be removed under that.
 * A paused one has its checkpoint already, and shares it; it stays busy until that is done.
 *
 * A sandbox that is made of one is a clone, as a fork's child is, but for who it is: that is its
 * create's to say. Of the snapshot it has the sizes, the kernel, and, below what the create says,
 * the environment, the user and the directory of its source. The snapshot is held until then.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/snapshot-internal.h"
#include "sandbox/steps.h"
#include "sandbox/take.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

struct making {
	struct manager *m;
	struct sandbox *held; /* the paused source, busy for us; NULL = none */
	struct snapshot_draft draft;
	struct op op;
	struct plan_timing timing;
	int result;
	snapshot_made_fn done;
	void *arg;
};

static void making_free(struct making *mk)
{
	snapshot_done(&mk->draft.info);
	fd_close(&mk->draft.stage_fd);
	free(mk);
}

static void log_made(const struct making *mk, const struct snapshot *s)
{
	char id[SNAPSHOT_ID_SIZE];

	snapshot_id(s, id);
	log_info("snapshot.made", kv_str("snapshot", id), kv_str("id", s->source.s),
		 kv_u64("bytes", s->bytes), kv_u64("us", mk->timing.total_ns / NS_PER_US));
}

/* Tells how it ended, and forgets it. */
static void tell(struct making *mk, const struct taken *t, const struct err *e)
{
	const struct snapshot *s = snapshots_settle(mk->m, &mk->draft, e == NULL);

	if (s != NULL)
		log_made(mk, s);
	mk->done(s, s != NULL ? t : NULL, e, mk->arg);
	making_free(mk);
}

static int run_plan(struct making *mk, struct sandbox *sb, struct op *op)
{
	unsigned leaks = 0;
	int r;

	mk->draft.info.checkpoint = mk->draft.from.checkpoint;
	sb->res.snapshot = &mk->draft;
	r = plan_run(&snapshot_plan, sb, op, &mk->timing, &leaks);
	sb->res.snapshot = NULL;
	return r;
}

/* On the worker that took the checkpoint. */
static int use_passing(struct sandbox *sb, struct passing *p, void *arg, struct op *op)
{
	struct making *mk = arg;
	struct op tidy;
	int r;

	mk->draft.owner_fd = p->owner_fd;
	mk->draft.from = p->ref;
	r = run_plan(mk, sb, op);
	op_init(&tidy, 0, -1);
	if (r < 0 && checkpoint_remove(p->owner_fd, p->ref.checkpoint.generation, &tidy) < 0)
		log_error("snapshot.tidy", kv_str("error", tidy.err.msg));
	return r;
}

static void on_taken(struct sandbox *sb, struct passing *p, const struct taken *t,
		     const struct err *e, void *arg)
{
	(void)p;
	take_tidy(sb);
	tell(arg, t, e);
}

static int share_own(struct making *mk)
{
	struct sandbox *sb = mk->held;
	auto_close int dirfd = openat(mk->m->sandboxes_fd, sb->row.id.s,
				      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	auto_close int fd = -1;

	if (dirfd < 0)
		return err_errno(&mk->op.err, errno, "open sandbox directory %s", sb->row.id.s);
	fd = checkpoint_open(dirfd, sb->row.generation, &mk->draft.from.checkpoint, &mk->op);
	if (fd < 0)
		return fd;
	mk->draft.from.fd = fd;
	return run_plan(mk, sb, &mk->op);
}

static void hold_work(void *arg)
{
	struct making *mk = arg;

	mk->result = share_own(mk);
}

static void hold_done(void *arg)
{
	struct making *mk = arg;
	struct sandbox *sb = mk->held;
	struct manager *m = mk->m;

	sandbox_end(sb);
	if (mk->result < 0)
		err_wrap(&mk->op.err, "snapshot of sandbox %s", sb->row.id.s);
	tell(mk, NULL, mk->result < 0 ? &mk->op.err : NULL);
	sandbox_idle(sb);
	manager_operation_ended(m);
}

static void hold(struct making *mk, struct sandbox *sb)
{
	mk->held = sb;
	sandbox_begin(sb);
	work_submit(sb->m->loop, hold_work, hold_done, mk);
}

/* What a pause does behind its answer has ended. */
static void on_idle(struct sandbox *sb, const struct err *gone, void *arg)
{
	struct making *mk = arg;

	if (gone == NULL && sandbox_check_paused(sb, &mk->op.err) == 0)
		hold(mk, sb);
	else
		tell(mk, NULL, gone != NULL ? gone : &mk->op.err);
}

static int begin_paused(struct making *mk, struct sandbox *sb, struct err *e)
{
	int r = sandbox_check_paused(sb, e);

	if (r < 0)
		return r;
	if (sb->busy)
		sandbox_when_idle(sb, on_idle, mk);
	else
		hold(mk, sb);
	return 0;
}

static struct making *making_new(struct sandbox *sb, const struct snapshot_name *id, bool named)
{
	struct making *mk = xcalloc(1, sizeof(*mk));
	const struct db_sandbox *row = &sb->row;

	mk->m = sb->m;
	mk->draft.owner_fd = mk->draft.stage_fd = mk->draft.from.fd = -1;
	mk->draft.info = (struct snapshot){ .id = *id,
					    .named = named,
					    .source = row->id,
					    .template_name = str_dup(row->template_name),
					    .user = str_dup(row->user),
					    .workdir = str_dup(row->workdir),
					    .env_json = str_dup(row->env_json),
					    .created_ms = clock_realtime_ms() };
	op_init(&mk->op, 0, -1);
	mk->op.fault = sb->m->config.fault;
	return mk;
}

/* The name that is asked for, or an id; its tag is filled in. */
static int choose_name(const struct manager *m, const char *text, struct snapshot_name *out,
		       struct err *e)
{
	struct sandbox_id id = id_new();
	int r = snapshot_name_parse(text != NULL ? text : id.s, out, e);

	if (r < 0)
		return r;
	if (template_exists(m->config.state_dir, out->name))
		return err_set(e, ERR_CONFLICT, "a template has the name %s; choose another",
			       out->name);
	if (out->tag[0] == '\0')
		str_copy(out->tag, sizeof(out->tag), SNAPSHOT_DEFAULT_TAG);
	return 0;
}

int sandbox_snapshot(struct sandbox *sb, const char *name, snapshot_made_fn done, void *arg,
		     struct err *e)
{
	struct snapshot_draft none = { .replaced = false };
	struct snapshot_name id;
	struct making *mk;
	int r = choose_name(sb->m, name, &id, e);

	if (r == 0)
		r = snapshots_reserve(sb->m, &id, e);
	if (r < 0)
		return r;
	mk = making_new(sb, &id, name != NULL);
	mk->done = done;
	mk->arg = arg;
	r = sb->row.state == DB_PAUSED ? begin_paused(mk, sb, e)
				       : take_passing(sb, use_passing, on_taken, mk, e);
	if (r == 0)
		return 0;
	none.info.id = id;
	ignore_err(snapshots_settle(sb->m, &none, false) == NULL);
	making_free(mk);
	return r;
}

/* A create that reads a snapshot. */
struct use {
	const struct snapshot *s; /* held */
	sandbox_create_fn done;
	void *arg;
};

static void on_created(struct sandbox *sb, const struct err *e, void *arg)
{
	struct use u = *(struct use *)arg;

	free(arg);
	snapshot_let_go(u.s);
	u.done(sb, e, u.arg);
}

static int check_size(const char *what, uint64_t wanted, uint64_t is, const char *id, struct err *e)
{
	if (wanted == 0 || wanted == is)
		return 0;
	return err_set(e, ERR_INVALID,
		       "%s %llu: snapshot %s has %llu, and what is made of it, too; leave it out",
		       what, (unsigned long long)wanted, id, (unsigned long long)is);
}

static int check_sizes(const struct db_sandbox *spec, const struct snapshot *s, const char *id,
		       struct err *e)
{
	const struct checkpoint *c = &s->checkpoint;
	int r = check_size("cpus", spec->cpus, c->cpus, id, e);

	if (r == 0)
		r = check_size("memory MiB", spec->memory_mib, c->memory_mib, id, e);
	return r < 0 ? r : check_size("disk MiB", spec->disk_mib, c->disk_mib, id, e);
}

/* What the create leaves open is as it was in the source. */
static int complete(struct db_sandbox *spec, const struct snapshot *s, const char *id,
		    struct err *e)
{
	auto_json *env = json_loads(s->env_json, 0, NULL);

	db_set_str(&spec->template_name, id);
	if (spec->metadata_json[0] == '\0')
		db_set_str(&spec->metadata_json, "{}");
	if (spec->env_json[0] == '\0')
		db_set_str(&spec->env_json, "{}");
	if (spec->user[0] == '\0')
		db_set_str(&spec->user, s->user);
	if (spec->workdir[0] == '\0')
		db_set_str(&spec->workdir, s->workdir);
	return spec_merge_env(spec, env, e);
}

static int open_origin(int dirfd, const struct snapshot *s, const char *id,
		       struct checkpoint_ref *out, struct err *e)
{
	struct op op;

	op_init(&op, 0, -1);
	if (err_is_set(&s->fault))
		op.err = s->fault;
	else
		out->fd = checkpoint_open(dirfd, s->checkpoint.generation, &out->checkpoint, &op);
	if (out->fd >= 0)
		return 0;
	return err_set(e, ERR_SYSTEM, "snapshot %s cannot be used: %s", id, op.err.msg);
}

int snapshot_create(struct manager *m, const struct snapshot *s, struct db_sandbox *spec,
		    const struct create_told *told, struct err *e)
{
	struct checkpoint_ref origin = { .fd = -1 };
	char id[SNAPSHOT_ID_SIZE];
	struct use *u;
	int r;

	snapshot_id(s, id);
	u = xcalloc(1, sizeof(*u));
	*u = (struct use){ .s = s, .done = told->done, .arg = told->arg };
	r = open_origin(snapshot_hold(s), s, id, &origin, e);
	if (r == 0)
		r = check_sizes(spec, s, id, e);
	if (r == 0)
		r = complete(spec, s, id, e);
	if (r == 0)
		r = sandbox_create_from(m, spec, &origin,
					&(struct create_told){ on_created, u, told->out_id }, e);
	fd_close(&origin.fd);
	if (r < 0) {
		snapshot_let_go(s);
		free(u);
	}
	return r;
}
