/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making an image of a template, as a plan.
 *
 * All of it happens in a stage, `templates/.<name>.build-<random>/`, whose lock dies with vivd: it
 * is the directory of a VM that is booted and saved as a sandbox is. The checkpoint that comes of
 * that is moved into the template's directory by one rename, and what is left of the stage goes.
 *
 * The guest's memory goes into a file of its own, the image, which each sandbox maps privately;
 * what the checkpoint records beside it is next to nothing. The kernel clears what it frees, so
 * that pages which are free again are zeros in image and sandbox alike, and are not stored.
 */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "sandbox/steps.h"
#include "sandbox/warm-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static struct warm_vm *warm_vm_of(struct sandbox *sb)
{
	return container_of(sb, struct warm_vm, sb);
}

static int stage_acquire(struct sandbox *sb, struct op *op)
{
	struct warm_vm *vm = warm_vm_of(sb);
	auto_free char *prefix = str_printf(".%s" TEMPLATE_STAGE, sb->row.template_name);
	int r = stage_begin(vm->templates_fd, prefix, true, &vm->stage);

	if (r < 0)
		return err_errno(&op->err, -r, "make a directory for an image of template %s",
				 sb->row.template_name);
	sb->res.dirfd = fcntl(vm->stage.fd, F_DUPFD_CLOEXEC, 3);
	return sb->res.dirfd < 0 ? err_errno(&op->err, errno, "duplicate a descriptor") : 0;
}

static int stage_release(struct sandbox *sb, struct op *op)
{
	(void)op;
	fd_close(&sb->res.draft_fd);
	fd_close(&sb->res.dirfd);
	stage_done(&warm_vm_of(sb)->stage);
	return 0;
}

static int own_layer_acquire(struct sandbox *sb, struct op *op)
{
	struct disk_spec spec = disk_spec_of(sb);
	int r = disk_create(sb->m->disk, &spec, op);

	return r < 0 ? r : disk_sync(sb->m->disk, sb->res.dirfd, op);
}

/* Its number follows those that the template has: nobody else makes one meanwhile. */
static int numbered_draft_acquire(struct sandbox *sb, struct op *op)
{
	struct warm_vm *vm = warm_vm_of(sb);
	struct generations known = { 0 };
	int r = checkpoint_list(vm->template_fd, &known, op);

	sb->row.generation = known.n > 0 ? known.at[known.n - 1] : 0;
	generations_done(&known);
	sandbox_note_versions(sb);
	if (r == 0)
		r = draft_acquire(sb, op);
	if (r < 0)
		return r;
	sb->res.draft.parent = 0;
	str_copy(sb->res.draft.initramfs, sizeof(sb->res.draft.initramfs), vm->initramfs);
	str_copy(sb->res.draft.cmdline, sizeof(sb->res.draft.cmdline), vm->cmdline);
	str_copy(sb->res.draft.start, sizeof(sb->res.draft.start), sb->res.start);
	return 0;
}

static int make_file(const struct sandbox *sb, const char *name, struct op *op)
{
	int fd = openat(sb->res.draft_fd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);

	return fd < 0 ? err_errno(&op->err, errno, "make the image's file %s", name) : fd;
}

/* Writes all of the guest's memory into a new file. */
static int write_image(const struct sandbox *sb, const struct ram *ram, int fd, struct op *op)
{
	const struct memory_image none = MEMORY_IMAGE_INIT;
	auto_close int diff = make_file(sb, "whole", op);
	struct memory_stat stat;
	int r;

	if (diff < 0)
		return diff;
	unlinkat(sb->res.draft_fd, "whole", 0);
	r = memory_save(ram, &none, diff, &stat, op);
	if (r == 0)
		r = memory_merge(&none, diff, ram->bytes, fd, op);
	if (r < 0)
		return r;
	if (fchmod(fd, 0400) < 0 || fdatasync(fd) < 0)
		return err_errno(&op->err, errno, "write the memory image");
	return 0;
}

/* The image, under the name that its checksum gives it; mapped. */
static int make_image(struct sandbox *sb, const struct ram *ram, struct memory_image *out,
		      struct op *op)
{
	auto_close int fd = make_file(sb, "image", op);
	int r = fd < 0 ? fd : write_image(sb, ram, fd, op);

	if (r == 0)
		r = memory_image_map(fd, 0, out, &op->err);
	if (r < 0)
		return r;
	out->id = memory_image_checksum(out);
	sb->res.draft.image_id = out->id;
	image_note(&sb->m->known_images, fd, out->id);
	r = image_name(sb->res.draft_fd, "image", out->id);
	return r < 0 ? err_errno(&op->err, -r, "name the memory image") : 0;
}

static int image_acquire(struct sandbox *sb, struct op *op)
{
	cleanup(memory_image_done) struct memory_image image = MEMORY_IMAGE_INIT;
	auto_close int fd = -1;
	struct ram ram;
	int r = vmm_ram(sb->res.vmm, &ram, op);

	if (r == 0)
		r = make_image(sb, &ram, &image, op);
	if (r < 0)
		return r;
	fd = make_file(sb, "memory", op);
	return fd < 0 ? fd : memory_save(&ram, &image, fd, &sb->res.draft.memory, op);
}

static int share_disk_acquire(struct sandbox *sb, struct op *op)
{
	struct disk_spec spec = disk_spec_of(sb);
	int r = disk_link(sb->res.dirfd, sb->res.draft_fd, op);

	spec.dirfd = sb->res.draft_fd;
	return r < 0 ? r : disk_seal(sb->m->disk, &spec, 0, op); /* nobody waits for an image */
}

/* From here on creates find it. */
static int publish_acquire(struct sandbox *sb, struct op *op)
{
	return checkpoint_move(sb->res.dirfd, warm_vm_of(sb)->template_fd, sb->res.draft.generation,
			       op);
}

static const struct step warm_steps[] = {
	{ "stage", STEP_DATA, stage_acquire, stage_release, NULL },
	{ "layer", STEP_DATA, own_layer_acquire, NULL, NULL },
	{ "rundir", STEP_VOLATILE, rundir_acquire, rundir_release, NULL },
	{ "slot", STEP_VOLATILE, slot_acquire, slot_release, NULL },
	{ "cgroup", STEP_VOLATILE, cgroup_acquire, cgroup_release, NULL },
	{ "vmm", STEP_VOLATILE, vmm_acquire, vmm_release, NULL },
	{ "agent", STEP_VOLATILE, agent_acquire, NULL, NULL },
	{ "start", STEP_VOLATILE, start_acquire, NULL, NULL },
	{ "quiesce", STEP_VOLATILE, quiesce_acquire, NULL, NULL },
	{ "halt", STEP_VOLATILE, halt_acquire, NULL, NULL },
	{ "draft", STEP_VOLATILE, numbered_draft_acquire, NULL, NULL },
	{ "arm", STEP_VOLATILE, arm_acquire, NULL, NULL },
	{ "devices", STEP_VOLATILE, devices_acquire, NULL, NULL },
	{ "image", STEP_VOLATILE, image_acquire, NULL, NULL },
	{ "settle", STEP_VOLATILE, settle_acquire, NULL, NULL },
	{ "share", STEP_VOLATILE, share_disk_acquire, NULL, NULL },
	{ "commit", STEP_VOLATILE, commit_acquire, NULL, NULL },
	{ "publish", STEP_VOLATILE, publish_acquire, NULL, NULL },
};
static_assert(ARRAY_SIZE(warm_steps) <= PLAN_STEPS_MAX, "every step's time is kept");

const struct plan warm_plan = { "warm", warm_steps, ARRAY_SIZE(warm_steps) };
