/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox's checkpoints: the list of them, and removing one. Reading them touches nothing of the
 * sandbox's resources, so a list is no operation, and may be had of one that is busy.
 */
#include "sandbox/checkpoints.h"

#include "base/fd.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/sandbox-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { STAT_BLOCK_BYTES = 512 };

struct listing {
	struct manager *m;
	struct sandbox_id id;
	struct op op;
	int result;
	struct checkpoint_views views;
	void (*done)(const struct checkpoint_views *views, const struct err *e, void *arg);
	void *arg;
};

static int open_owner(struct manager *m, const struct sandbox_id *id, struct op *op)
{
	int fd = openat(m->sandboxes_fd, id->s, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? err_errno(&op->err, errno, "open sandbox directory %s", id->s) : fd;
}

static uint64_t file_bytes(int fd, const char *name)
{
	struct stat st;

	return fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0
		       ? 0
		       : (uint64_t)st.st_blocks * STAT_BLOCK_BYTES;
}

static void add_view(struct listing *l, int owner_fd, uint64_t generation)
{
	struct checkpoint_view view = { .checkpoint = { .generation = generation } };
	struct op op = op_child(&l->op, 0);
	auto_close int fd = checkpoint_open(owner_fd, generation, &view.checkpoint, &op);

	if (fd < 0 && op.err.kind == ERR_NOT_FOUND)
		return; /* it was removed meanwhile */
	if (fd < 0)
		view.fault = op.err;
	else
		view.allocated_bytes = file_bytes(fd, "devices") + file_bytes(fd, "memory") +
				       disk_allocated(l->m->disk, fd);
	checkpoint_views_push(&l->views, view);
}

static void list_work(void *arg)
{
	struct listing *l = arg;
	auto_close int fd = open_owner(l->m, &l->id, &l->op);
	struct generations known = { 0 };

	l->result = fd < 0 ? fd : checkpoint_list(fd, &known, &l->op);
	vec_foreach (generation, &known)
		add_view(l, fd, *generation);
	generations_done(&known);
}

static void list_done(void *arg)
{
	struct listing *l = arg;
	struct manager *m = l->m;

	l->done(&l->views, l->result < 0 ? &l->op.err : NULL, l->arg);
	checkpoint_views_done(&l->views);
	free(l);
	manager_look_ended(m);
}

int sandbox_checkpoints(struct sandbox *sb,
			void (*done)(const struct checkpoint_views *views, const struct err *e,
				     void *arg),
			void *arg, struct err *e)
{
	struct listing *l;
	int r = manager_check_open(sb->m, e);

	if (r < 0)
		return r;
	l = xcalloc(1, sizeof(*l));
	*l = (struct listing){ .m = sb->m, .id = sb->row.id, .done = done, .arg = arg };
	op_init(&l->op, 0, -1);
	l->m->n_looking++;
	work_submit(l->m->loop, list_work, list_done, l);
	return 0;
}

struct removal {
	struct sandbox *sb;
	uint64_t generation;
	struct op op;
	int result;
	sandbox_done_fn done;
	void *arg;
};

static int remove_one(struct removal *r)
{
	auto_close int owner_fd = open_owner(r->sb->m, &r->sb->row.id, &r->op);
	struct generations known = { 0 };
	bool found = false;
	int result = owner_fd < 0 ? owner_fd : checkpoint_list(owner_fd, &known, &r->op);

	vec_foreach (generation, &known)
		found = found || *generation == r->generation;
	generations_done(&known);
	if (result < 0)
		return result;
	if (!found)
		return err_set(&r->op.err, ERR_NOT_FOUND, "sandbox %s has no checkpoint %ju",
			       r->sb->row.id.s, (uintmax_t)r->generation);
	return checkpoint_remove(owner_fd, r->generation, &r->op);
}

static void remove_work(void *arg)
{
	struct removal *r = arg;

	r->result = remove_one(r);
}

static void remove_done(void *arg)
{
	struct removal *r = arg;
	struct sandbox *sb = r->sb;
	struct manager *m = sb->m;

	sandbox_end(sb);
	if (sb->row.state == DB_RUNNING)
		watch_start(sb);
	r->done(sb, r->result < 0 ? &r->op.err : NULL, r->arg);
	free(r);
	sandbox_idle(sb);
	manager_operation_ended(m);
}

static int check_can_remove(const struct sandbox *sb, uint64_t generation, struct err *e)
{
	int r;

	if (sb->row.state == DB_RUNNING)
		return sandbox_check_idle(sb, e);
	r = sandbox_check_at_rest(sb, e);
	if (r < 0)
		return r;
	if (sb->row.state == DB_PAUSED && sb->row.generation == generation)
		return err_set(e, ERR_CONFLICT,
			       "sandbox %s is paused at checkpoint %ju, which is all that there is "
			       "of it",
			       sb->row.id.s, (uintmax_t)generation);
	return 0;
}

static void start_removal(struct removal *r)
{
	struct sandbox *sb = r->sb;

	if (sb->row.state == DB_RUNNING)
		watch_stop(sb);
	sandbox_begin(sb);
	sb->goes_on = sb->row.state == DB_RUNNING;
	work_submit(sb->m->loop, remove_work, remove_done, r);
}

/* What a pause does behind its answer has ended. */
static void on_idle(struct sandbox *sb, const struct err *gone, void *arg)
{
	struct removal *r = arg;
	struct err e = { 0 };

	if (gone == NULL && check_can_remove(sb, r->generation, &e) == 0) {
		start_removal(r);
		return;
	}
	r->done(sb, gone != NULL ? gone : &e, r->arg);
	free(r);
}

int sandbox_checkpoint_remove(struct sandbox *sb, uint64_t generation, sandbox_done_fn done,
			      void *arg, struct err *e)
{
	struct removal *r;
	int result = check_can_remove(sb, generation, e);

	if (result < 0)
		return result;
	r = xcalloc(1, sizeof(*r));
	*r = (struct removal){ .sb = sb, .generation = generation, .done = done, .arg = arg };
	op_init(&r->op, 0, -1);
	if (sb->busy)
		sandbox_when_idle(sb, on_idle, r);
	else
		start_removal(r);
	return 0;
}
