/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Flattening makes a template of a sandbox's disk, when no VM has it: a running sandbox is stopped
 * first, as by `viv stop`, so its guest has synced and its VM is gone for certain; of a paused one
 * the disk is its checkpoint's, which was synced, too. The sandbox stays busy until the template is
 * there, so that nobody starts it meanwhile. Its disk is only read. Only the sandbox's removal, or
 * vivd's end, ends it early: then there is no template, and all else is as it was.
 */
#include "sandbox/flatten.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/flatten-internal.h"
#include "sandbox/room-internal.h"
#include "sandbox/steps.h"
#include "template/publish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>

struct flattening {
	struct manager *m;
	struct sandbox *sb; /* busy for us; NULL = not yet */
	struct flat_draft draft;
	struct op op;
	struct plan_timing timing;
	int result;
	void (*done)(const struct template *t, const struct err *e, void *arg);
	void *arg;
};

static void tell(struct flattening *f, const struct err *e)
{
	f->done(e == NULL ? &f->draft.template : NULL, e, f->arg);
	flat_draft_done(&f->draft);
	free(f);
}

/* The directory that has the disk: the sandbox's, or that of the checkpoint which it is paused at.
 * Return: descriptor; -errno with op->err set. */
static int open_disk_owner(struct flattening *f)
{
	const struct db_sandbox *row = &f->sb->row;
	auto_close int fd = openat(f->m->sandboxes_fd, row->id.s,
				   O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return err_errno(&f->op.err, errno, "open sandbox directory %s", row->id.s);
	if (row->state == DB_PAUSED)
		return checkpoint_open_disk(fd, row->generation, &f->op);
	return take_fd(&fd);
}

static void flatten_work(void *arg)
{
	struct flattening *f = arg;
	struct sandbox *sb = f->sb;
	auto_close int fd = open_disk_owner(f);
	unsigned leaks = 0;

	f->result = fd < 0 ? fd : 0;
	if (fd < 0)
		return;
	f->draft.disk_dirfd = fd;
	sb->res.flat = &f->draft;
	f->result = plan_run(&flatten_plan, sb, &f->op, &f->timing, &leaks);
	sb->res.flat = NULL;
	stage_done(&f->draft.stage);
	if (f->result == 0)
		f->result = template_open(f->m->config.state_dir, f->draft.template.name,
					  &f->draft.template, &f->op.err);
}

/* Why it was cancelled is for others to know than who cancelled it. */
static void explain_end(struct flattening *f)
{
	bool removed = f->sb->doomed;

	f->op.err = (struct err){ 0 };
	if (removed)
		err_set(&f->op.err, ERR_NOT_FOUND, "it is being removed");
	else
		err_set(&f->op.err, ERR_EXHAUSTED, "vivd is shutting down; try again");
}

static void flatten_done(void *arg)
{
	struct flattening *f = arg;
	struct sandbox *sb = f->sb;
	struct manager *m = f->m;

	sb->wanted = false;
	sandbox_end(sb);
	if (f->result < 0 && f->op.err.kind == ERR_CANCELLED)
		explain_end(f);
	if (f->result < 0)
		err_wrap(&f->op.err, "flatten sandbox %s", sb->row.id.s);
	else
		log_info("sandbox.flattened", kv_str("id", sb->row.id.s),
			 kv_str("template", f->draft.template.name),
			 kv_u64("bytes", f->draft.template.root_bytes),
			 kv_u64("us", f->timing.total_ns / NS_PER_US));
	tell(f, f->result < 0 ? &f->op.err : NULL);
	sandbox_idle(sb);
	manager_operation_ended(m);
}

static void hold(struct flattening *f, struct sandbox *sb)
{
	f->sb = sb;
	sandbox_begin(sb);
	sb->wanted = true;
	sb->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); /* -1: then it is waited for */
	f->op.cancel_fd = sb->cancel_fd;
	work_submit(sb->m->loop, flatten_work, flatten_done, f);
}

static void on_idle(struct sandbox *sb, const struct err *gone, void *arg)
{
	struct flattening *f = arg;

	if (gone == NULL && sandbox_check_at_rest(sb, &f->op.err) == 0)
		hold(f, sb);
	else
		tell(f, gone != NULL ? gone : &f->op.err);
}

/* It has come to rest, but is busy still. */
static void on_stopped(struct sandbox *sb, const struct err *e, void *arg)
{
	if (e != NULL)
		tell(arg, e);
	else
		sandbox_when_idle(sb, on_idle, arg);
}

static int check_name(const struct manager *m, const char *name, struct err *e)
{
	auto_free char *path = str_printf("%s/templates", m->config.state_dir);
	auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? err_errno(e, errno, "open %s", path) : template_check_name(fd, name, e);
}

static struct flattening *flattening_new(struct sandbox *sb, const char *name)
{
	struct flattening *f = xcalloc(1, sizeof(*f));
	struct template *t = &f->draft.template;

	f->m = sb->m;
	f->draft.templates_fd = f->draft.lock_fd = f->draft.image_fd = f->draft.disk_dirfd = -1;
	f->draft.stage.fd = -1;
	f->draft.env_json = str_dup(sb->row.env_json);
	str_copy(f->draft.source, sizeof(f->draft.source), sandbox_template(sb));
	str_copy(t->name, sizeof(t->name), name);
	str_copy(t->workdir, sizeof(t->workdir), sb->row.workdir);
	str_copy(t->user, sizeof(t->user), sb->row.user[0] != '\0' ? sb->row.user : "root");
	t->created_ms = clock_realtime_ms();
	op_init(&f->op, 0, -1);
	f->op.fault = sb->m->config.fault;
	return f;
}

static int begin(struct flattening *f, struct sandbox *sb, struct err *e)
{
	int r;

	if (sb->row.state == DB_RUNNING)
		return sandbox_stop(sb, on_stopped, f, e);
	r = sandbox_check_at_rest(sb, e);
	if (r < 0)
		return r;
	if (sb->busy)
		sandbox_when_idle(sb, on_idle, f);
	else
		hold(f, sb);
	return 0;
}

int sandbox_flatten(struct sandbox *sb, const char *name,
		    void (*done)(const struct template *t, const struct err *e, void *arg),
		    void *arg, struct err *e)
{
	struct flattening *f;
	int r = check_name(sb->m, name, e);

	if (r == 0)
		r = room_check_disk(sb->m, e);
	if (r < 0)
		return r;
	f = flattening_new(sb, name);
	f->done = done;
	f->arg = arg;
	r = begin(f, sb, e);
	if (r < 0) {
		flat_draft_done(&f->draft);
		free(f);
	}
	return r;
}
