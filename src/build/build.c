/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A build takes place in a stage below templates/ (stage.c), which holds `root/`, the future
 * root, and `out/`, which becomes templates/<name>@<digest>/ when it is complete and durable.
 * Then the link templates/<name> is replaced (template.c). One build of a name runs at a time, by a
 * lock that dies with its holder; who had to wait for another takes what that one made.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "build/template-internal.h"
#include "os/lock.h"
#include "template/publish.h"
#include "template/stage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct build {
	const struct recipe *recipe;
	const struct progress *progress;
	int dirfd;   /* templates/; owned */
	int lock_fd; /* owned */
	struct stage stage;
	char *dir; /* absolute path of the stage; owned */
	char *out; /* of what becomes the template; owned */
};

static void build_done(struct build *b)
{
	stage_done(&b->stage);
	free_ptr(&b->dir);
	free_ptr(&b->out);
	fd_close(&b->lock_fd);
	fd_close(&b->dirfd);
}

void build_tell(const struct progress *progress, unsigned at, unsigned of, const char *what)
{
	if (progress != NULL && progress->step != NULL)
		progress->step(at, of, what, progress->arg);
}

void build_detail(const struct progress *progress, const char *text)
{
	if (progress != NULL && progress->detail != NULL)
		progress->detail(text, progress->arg);
}

static int check_space(const char *path, uint64_t needed_bytes, struct err *e)
{
	struct statvfs fs;
	uint64_t free_bytes;

	if (statvfs(path, &fs) < 0)
		return err_errno(e, errno, "look for free space in %s", path);
	free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (free_bytes >= needed_bytes)
		return 0;
	return err_set(e, ERR_EXHAUSTED,
		       "building a template takes %llu MB in %s, where %llu MB are free",
		       (unsigned long long)needed_bytes / 1000000, path,
		       (unsigned long long)free_bytes / 1000000);
}

/* Return: 0 ours at once; 1 ours, after another build has ended; -errno with op->err set. */
static int take_lock(struct build *b, struct op *op)
{
	auto_free char *name = str_printf(".%s.lock", b->recipe->name);
	int r;

	b->lock_fd = openat(b->dirfd, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (b->lock_fd < 0)
		return err_errno(&op->err, errno, "open %s/templates/%s", b->recipe->state_dir,
				 name);
	r = lock_try(b->lock_fd);
	if (r == 0)
		return 0;
	if (r != -EWOULDBLOCK)
		return err_errno(&op->err, -r, "lock %s/templates/%s", b->recipe->state_dir, name);
	build_detail(b->progress, "another build of this template is under way; waiting for it");
	r = lock_wait(b->lock_fd, op);
	return r < 0 ? err_wrap(&op->err, "another build of the template") : 1;
}

static int open_build(struct build *b, struct op *op)
{
	auto_free char *templates = str_printf("%s/templates", b->recipe->state_dir);
	int r;

	if (geteuid() != 0)
		return err_set(&op->err, ERR_UNSUPPORTED,
			       "a template can only be built by root: try again with sudo");
	r = file_mkdirs(templates);
	if (r < 0)
		return err_errno(&op->err, -r, "make %s", templates);
	b->dirfd = open(templates, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (b->dirfd < 0)
		return err_errno(&op->err, errno, "open %s", templates);
	r = template_check_name(b->dirfd, b->recipe->name, &op->err);
	return r < 0 ? r : take_lock(b, op);
}

static int open_stage(struct build *b, struct op *op)
{
	auto_free char *templates = str_printf("%s/templates", b->recipe->state_dir);
	auto_free char *prefix = str_printf(".%s" TEMPLATE_STAGE, b->recipe->name);
	int r = stage_begin(b->dirfd, prefix, true, &b->stage);

	if (r < 0)
		return err_errno(&op->err, -r, "make a temporary directory in %s", templates);
	b->dir = str_printf("%s/%s", templates, b->stage.name);
	b->out = str_printf("%s/out", b->dir);
	/* Whatever umask we have: VMMs, which are not root, read it. */
	if (mkdir(b->out, 0755) < 0 || chmod(b->out, 0755) < 0)
		return err_errno(&op->err, errno, "make %s", b->out);
	return check_space(templates, b->recipe->space_bytes, &op->err);
}

static int write_manifest(struct build *b, const struct template *t, const json_t *image,
			  struct op *op)
{
	auto_close int out_fd = open(b->out, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (out_fd < 0)
		return err_errno(&op->err, errno, "open %s", b->out);
	r = template_write_manifest(out_fd, t, image, &op->err);
	if (r == 0 && fsync(out_fd) < 0)
		r = err_errno(&op->err, errno, "write %s", b->out);
	return r;
}

/* Makes the contents of out/. */
static int fill(struct build *b, struct template *t, struct op *op)
{
	auto_free char *root = str_printf("%s/root", b->dir);
	auto_free char *path = str_printf("%s/root.img", b->out);
	const struct recipe *recipe = b->recipe;
	struct root_job job = {
		.dir = b->dir, .root = root, .progress = b->progress, .arg = recipe->arg
	};
	auto_json *image = NULL;
	int r = recipe->make_root(&job, t, &image, op);

	if (r < 0)
		return r;
	build_tell(b->progress, recipe->steps - 1, recipe->steps, "write the disk image");
	r = image_make(root, path, recipe->free_mib, op);
	if (r < 0)
		return r;
	build_tell(b->progress, recipe->steps, recipe->steps, "compute the image's digest");
	r = template_seal(path, &t->root_bytes, t->sha256, op);
	return r < 0 ? r : write_manifest(b, t, image, op);
}

int template_build(const struct recipe *recipe, const struct progress *progress, struct op *op)
{
	cleanup(build_done) struct build b = { .recipe = recipe,
					       .progress = progress,
					       .dirfd = -1,
					       .lock_fd = -1,
					       .stage = { .fd = -1 } };
	struct template t = { .created_ms = clock_realtime_ms() };
	int r = open_build(&b, op);

	if (r < 0)
		return r;
	if (r > 0 && recipe->shared && template_exists(recipe->state_dir, recipe->name))
		return 0;
	str_copy(t.name, sizeof(t.name), recipe->name);
	r = open_stage(&b, op);
	if (r == 0)
		r = fill(&b, &t, op);
	return r < 0 ? r : template_publish(b.dirfd, b.stage.name, &t, op);
}
