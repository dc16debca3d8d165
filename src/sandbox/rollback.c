/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Going back to a checkpoint, in two parts. First all of it is checked, every byte of its memory
 * and disk, while the sandbox goes on. Then the row says "resuming" at that generation, which is
 * the moment at which the present state is given up: from here on a kill or a failure ends as
 * paused there. What there is of a VM and of a disk is released, and the rest is a resume.
 */
#include "base/fd.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/checkpoints.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

struct rollback {
	struct sandbox *sb;
	uint64_t generation; /* 0 = the last one */
	bool has_timeout;
	uint64_t timeout_s;
	struct op op;
	int result;
	sandbox_resume_fn done;
	void *arg;
};

static int find_last(struct rollback *r, int owner_fd)
{
	struct generations known = { 0 };
	int result = checkpoint_list(owner_fd, &known, &r->op);

	if (known.n > 0)
		r->generation = known.at[known.n - 1];
	generations_done(&known);
	if (result == 0 && r->generation == 0)
		return err_set(&r->op.err, ERR_NOT_FOUND, "sandbox %s has no checkpoint",
			       r->sb->row.id.s);
	return result;
}

static int check_disk(const struct rollback *r, int fd, struct op *op)
{
	struct disk_spec spec = disk_spec_of(r->sb);
	int result = disk_exists(r->sb->m->disk, fd, op);

	if (result == 0)
		return err_set(&op->err, ERR_INVALID, "checkpoint %ju has lost its disk",
			       (uintmax_t)r->generation);
	spec.dirfd = fd;
	return result < 0 ? result : disk_verify(r->sb->m->disk, &spec, op);
}

static int check_memory(int fd, const struct checkpoint *c, struct op *op)
{
	auto_close int memory = openat(fd, "memory", O_RDONLY | O_CLOEXEC);

	if (memory < 0)
		return err_errno(&op->err, errno, "open the checkpoint's memory");
	return memory_verify(memory, c->memory_mib << 20, c->image_id, op);
}

static int check(struct rollback *r)
{
	auto_close int owner_fd = openat(r->sb->m->sandboxes_fd, r->sb->row.id.s,
					 O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	auto_close int fd = -1;
	struct checkpoint c;
	int result;

	if (owner_fd < 0)
		return err_errno(&r->op.err, errno, "open sandbox directory %s", r->sb->row.id.s);
	result = r->generation != 0 ? 0 : find_last(r, owner_fd);
	if (result < 0)
		return result;
	fd = checkpoint_open(owner_fd, r->generation, &c, &r->op);
	if (fd < 0)
		return fd;
	result = restore_check_origin(r->sb, &c, &r->op.err);
	if (result == 0)
		result = check_disk(r, fd, &r->op);
	if (result == 0)
		result = image_check(&r->sb->m->known_images, fd, c.image_id, &r->op);
	return result < 0 ? result : check_memory(fd, &c, &r->op);
}

static void check_work(void *arg)
{
	struct rollback *r = arg;

	r->result = check(r);
}

static void end_early(struct rollback *r, const struct err *e)
{
	struct sandbox *sb = r->sb;

	r->done(sb, false, e, r->arg);
	sandbox_idle(sb);
}

static void check_done(void *arg)
{
	struct rollback *r = arg;
	struct sandbox *sb = r->sb;
	struct manager *m = sb->m;
	bool running = sb->row.state == DB_RUNNING;

	sandbox_end(sb);
	if (r->result == 0 && (sb->doomed || m->closing))
		r->result = err_set(&r->op.err, ERR_CONFLICT, "sandbox %s is being %s",
				    sb->row.id.s, sb->doomed ? "removed" : "left by vivd");
	if (r->result == 0)
		r->result = resume_at(sb, r->generation, r->has_timeout ? &r->timeout_s : NULL,
				      r->done, r->arg, &r->op.err);
	if (r->result < 0) {
		err_wrap(&r->op.err, "roll back sandbox %s", sb->row.id.s);
		if (running)
			watch_start(sb);
		end_early(r, &r->op.err);
	}
	free(r);
	manager_operation_ended(m);
}

static int check_can_roll_back(const struct sandbox *sb, struct err *e)
{
	if (sb->row.state == DB_RUNNING)
		return sandbox_check_idle(sb, e);
	return sandbox_check_at_rest(sb, e);
}

static void start(struct rollback *r)
{
	struct sandbox *sb = r->sb;

	if (sb->row.state == DB_RUNNING)
		watch_stop(sb);
	sandbox_begin(sb);
	sb->goes_on = sb->row.state == DB_RUNNING;
	work_submit(sb->m->loop, check_work, check_done, r);
}

/* What a pause does behind its answer has ended. */
static void on_idle(struct sandbox *sb, const struct err *gone, void *arg)
{
	struct rollback *r = arg;
	struct err e = { 0 };

	if (gone == NULL && check_can_roll_back(sb, &e) == 0) {
		start(r);
		return;
	}
	r->done(sb, false, gone != NULL ? gone : &e, r->arg);
	free(r);
}

int sandbox_rollback(struct sandbox *sb, uint64_t generation, const uint64_t *timeout_s,
		     sandbox_resume_fn done, void *arg, struct err *e)
{
	struct rollback *r;
	int result = check_can_roll_back(sb, e);

	if (result < 0)
		return result;
	r = xcalloc(1, sizeof(*r));
	*r = (struct rollback){ .sb = sb,
				.generation = generation,
				.has_timeout = timeout_s != NULL,
				.timeout_s = timeout_s != NULL ? *timeout_s : 0,
				.done = done,
				.arg = arg };
	op_init(&r->op, 0, -1);
	if (sb->busy)
		sandbox_when_idle(sb, on_idle, r);
	else
		start(r);
	return 0;
}
