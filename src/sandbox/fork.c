/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Forking: a passing checkpoint of the source (sandbox/take.h), from which all children are made
 * at the same time, each as any other sandbox is; when the last one is done, well or not, the
 * checkpoint goes. The source is busy only while the checkpoint is made. What is shared with it,
 * and among the children, are files that nobody writes to any more.
 *
 * A paused source has its checkpoint already. It stays busy until the children are made, so that
 * nobody takes the checkpoint away meanwhile.
 *
 * What a killed daemon leaves are creates that the next one undoes, and a passing checkpoint that
 * it removes.
 */
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/room-internal.h"
#include "sandbox/take.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum { TOKEN_HEX_LEN = 64 };

struct fork;

struct child {
	struct fork *fork;
	struct fork_child *result;
};

struct fork {
	struct manager *m;
	struct sandbox_id source;
	struct sandbox *held; /* the paused source, busy for us; NULL = none */
	struct db_sandbox model;
	struct fork_spec spec;
	struct passing from;
	struct child children[FORK_CHILDREN_MAX];
	struct fork_child results[FORK_CHILDREN_MAX];
	unsigned open; /* children that are not done */
	struct op op;
	int result;
	void (*done)(const struct fork_child *children, unsigned n, const struct err *e, void *arg);
	void *arg;
};

/* A token of its own where the source has one: a child's is not the source's to know. */
static void renew_token(char **token, const char *model)
{
	char hex[TOKEN_HEX_LEN + 1] = "";

	if (model[0] != '\0')
		random_hex(hex, TOKEN_HEX_LEN);
	db_set_str(token, hex);
}

static void copy_egress(struct db_egress *to, const struct db_egress *from)
{
	db_set_str(&to->allow_out, from->allow_out);
	db_set_str(&to->deny_out, from->deny_out);
	db_set_str(&to->internet_access, from->internet_access);
}

/* All that a sandbox was asked to be, but for what is its own: id, name, tokens, deadline. @to was
 * initialised. */
static void copy_model(struct db_sandbox *to, const struct db_sandbox *from, uint64_t timeout_s)
{
	db_set_str(&to->template_name, from->template_name);
	db_set_str(&to->user, from->user);
	db_set_str(&to->workdir, from->workdir);
	db_set_str(&to->env_json, from->env_json);
	db_set_str(&to->metadata_json, from->metadata_json);
	db_set_str(&to->mask_host, from->mask_host);
	copy_egress(&to->egress, &from->egress);
	renew_token(&to->access_token, from->access_token);
	renew_token(&to->traffic_token, from->traffic_token);
	to->timeout_s = timeout_s;
	to->auto_pause = from->auto_pause;
	to->auto_pause_disk_only = from->auto_pause_disk_only;
	to->auto_resume = from->auto_resume;
	to->restart_max = from->restart_max;
	to->idle_s = from->idle_s;
	to->idle_kill = from->idle_kill;
}

static void remove_work(void *arg)
{
	struct fork *f = arg;
	struct op op;

	op_init(&op, 0, -1);
	if (f->from.owner_fd >= 0 &&
	    checkpoint_remove(f->from.owner_fd, f->from.ref.checkpoint.generation, &op) < 0)
		log_error("fork.tidy", kv_str("error", op.err.msg));
	passing_done(&f->from);
}

static void fork_free(struct fork *f)
{
	db_sandbox_done(&f->model);
	passing_done(&f->from);
	free(f);
}

/* The source may be gone, or be of use to somebody else. */
static void end_source(struct fork *f)
{
	struct sandbox *source = sandbox_by_id(f->m, &f->source);

	if (f->held != NULL) {
		sandbox_end(f->held);
		return;
	}
	f->m->n_busy--;
	if (source != NULL)
		take_tidy(source);
}

static void finish(struct fork *f)
{
	struct manager *m = f->m;
	struct sandbox *held = f->held;
	const struct err *e = f->result < 0 ? &f->op.err : NULL;

	end_source(f);
	f->done(f->results, e == NULL ? f->spec.count : 0, e, f->arg);
	fork_free(f);
	if (held != NULL)
		sandbox_idle(held);
	manager_operation_ended(m);
}

static void remove_done(void *arg)
{
	finish(arg);
}

static void child_ended(struct fork *f)
{
	if (--f->open == 0)
		work_submit(f->m->loop, remove_work, remove_done, f);
}

static void child_done(struct sandbox *sb, const struct err *e, void *arg)
{
	struct child *c = arg;

	(void)sb;
	if (e != NULL)
		c->result->error = *e;
	child_ended(c->fork);
}

static void make_children(struct fork *f)
{
	f->open = f->spec.count + 1; /* the last one is ours: no child ends it while we begin */
	for (unsigned i = 0; i < f->spec.count; i++) {
		struct child *c = &f->children[i];
		const struct create_told told = { child_done, c, &f->results[i].id };
		struct db_sandbox row;

		*c = (struct child){ .fork = f, .result = &f->results[i] };
		db_sandbox_init(&row);
		copy_model(&row, &f->model, f->spec.timeout_s);
		if (sandbox_create_from(f->m, &row, &f->from.ref, &told, &c->result->error) < 0)
			f->open--;
		db_sandbox_done(&row);
	}
	child_ended(f);
}

static void on_taken(struct sandbox *sb, struct passing *p, const struct taken *t,
		     const struct err *e, void *arg)
{
	struct fork *f = arg;

	(void)t;
	f->from = *p; /* also what a failure left to close */
	*p = (struct passing)PASSING_INIT;
	f->m->n_busy++;
	if (e != NULL) {
		f->op.err = *e;
		f->result = -EIO;
		finish(f);
		return;
	}
	copy_model(&f->model, &sb->row, 0);
	make_children(f);
}

static struct fork *fork_new(struct sandbox *sb, const struct fork_spec *spec)
{
	struct fork *f = xcalloc(1, sizeof(*f));

	f->m = sb->m;
	f->source = sb->row.id;
	f->spec = *spec;
	f->from = (struct passing)PASSING_INIT;
	db_sandbox_init(&f->model);
	op_init(&f->op, 0, -1);
	return f;
}

static int open_own(struct fork *f)
{
	struct sandbox *sb = f->held;
	auto_close int dirfd = openat(f->m->sandboxes_fd, sb->row.id.s,
				      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (dirfd < 0)
		return err_errno(&f->op.err, errno, "open sandbox directory %s", sb->row.id.s);
	return checkpoint_open(dirfd, sb->row.generation, &f->from.ref.checkpoint, &f->op);
}

static void open_work(void *arg)
{
	struct fork *f = arg;

	f->result = open_own(f);
	f->from.ref.fd = MAX(f->result, -1);
}

static void open_done(void *arg)
{
	struct fork *f = arg;

	if (f->result < 0) {
		finish(f);
		return;
	}
	copy_model(&f->model, &f->held->row, 0);
	make_children(f);
}

static void hold(struct fork *f, struct sandbox *sb)
{
	f->held = sb;
	sandbox_begin(sb);
	work_submit(sb->m->loop, open_work, open_done, f);
}

/* What a pause does behind its answer has ended. */
static void on_idle(struct sandbox *sb, const struct err *gone, void *arg)
{
	struct fork *f = arg;

	if (gone == NULL && sandbox_check_paused(sb, &f->op.err) == 0) {
		hold(f, sb);
		return;
	}
	f->done(f->results, 0, gone != NULL ? gone : &f->op.err, f->arg);
	fork_free(f);
}

static int fork_paused(struct fork *f, struct sandbox *sb, struct err *e)
{
	int r = sandbox_check_paused(sb, e);

	if (r < 0)
		return r;
	if (sb->busy)
		sandbox_when_idle(sb, on_idle, f);
	else
		hold(f, sb);
	return 0;
}

/* For all children, before their source stands still for them. */
static int check_room(struct sandbox *sb, unsigned count, struct err *e)
{
	const struct room_wish wish = {
		.vms = count, .memory_mib = sb->row.memory_mib, .disk = true, .asked = true
	};

	return room_check(sb->m, &wish, e);
}

int sandbox_fork(struct sandbox *sb, const struct fork_spec *spec,
		 void (*done)(const struct fork_child *children, unsigned n, const struct err *e,
			      void *arg),
		 void *arg, struct err *e)
{
	struct fork *f;
	int r;

	if (spec->count < 1 || spec->count > FORK_CHILDREN_MAX)
		return err_set(e, ERR_INVALID, "count %u: a fork has 1 to %d children", spec->count,
			       FORK_CHILDREN_MAX);
	if (sb->row.state == DB_PAUSED && !spec->paused_too)
		return err_set(e, ERR_CONFLICT, "sandbox %s is paused, not running", sb->row.id.s);
	r = check_room(sb, spec->count, e);
	if (r < 0)
		return r;
	f = fork_new(sb, spec);
	f->done = done;
	f->arg = arg;
	r = sb->row.state == DB_PAUSED ? fork_paused(f, sb, e)
				       : take_passing(sb, NULL, on_taken, f, e);
	if (r < 0)
		fork_free(f);
	return r;
}
