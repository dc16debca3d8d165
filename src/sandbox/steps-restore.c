/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Going on from a checkpoint. The checkpoint is only read: the disk is its layers with an empty one
 * on top, the memory its image, mapped privately, with what differs put over it.
 *
 * The VM is restored paused, and the guest's processes are frozen, as they were when it was saved.
 * "wake" is the barrier: vCPUs run, the agent gets fresh entropy, the time, and who it is now, and
 * only then are the processes thawed. If a part of it fails, nobody gets the sandbox.
 */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "sandbox/accel-internal.h"
#include "sandbox/listen.h"
#include "sandbox/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Has the sandbox share the memory image that its memory begins as, and no other. */
static int share_image(struct sandbox *sb, struct op *op)
{
	uint64_t wanted = sb->res.origin.image_id;
	uint64_t had = 0;
	int r = image_find(sb->res.dirfd, &had);

	if (r > 0 && had != wanted)
		r = image_unlink(sb->res.dirfd, had);
	if (r >= 0)
		r = image_link(sb->res.origin_fd, sb->res.dirfd, wanted);
	return r < 0 ? err_errno(&op->err, -r, "share the memory image") : 0;
}

int shared_layer_acquire(struct sandbox *sb, struct op *op)
{
	struct disk_spec spec = disk_spec_of(sb);
	int r = disk_release(sb->m->disk, sb->res.dirfd, op); /* of a start that was killed */

	if (r == 0)
		r = disk_clone(sb->m->disk, sb->res.origin_fd, &spec, op);
	if (r == 0)
		r = share_image(sb, op);
	return r < 0 ? r : durable_begin(sb, op);
}

/* What is open only while a VM is restored. */
struct restore_files {
	int devices;
	int memory;
	int image;
	int shim;
};

static void restore_files_done(struct restore_files *f)
{
	fd_close(&f->devices);
	fd_close(&f->memory);
	fd_close(&f->image);
	fd_close(&f->shim);
}

static int open_restore_files(const struct sandbox *sb, struct restore_files *f, struct op *op)
{
	const char *shim = sb->m->config.vmm_shim_path;

	f->devices = openat(sb->res.origin_fd, "devices", O_RDONLY | O_CLOEXEC);
	if (f->devices < 0)
		return err_errno(&op->err, errno, "open the checkpoint's devices");
	f->memory = openat(sb->res.origin_fd, "memory", O_RDONLY | O_CLOEXEC);
	if (f->memory < 0)
		return err_errno(&op->err, errno, "open the checkpoint's memory");
	f->shim = open(shim, O_RDONLY | O_CLOEXEC);
	if (f->shim < 0)
		return err_errno(&op->err, errno, "open %s", shim);
	if (sb->res.origin.image_id == 0)
		return 0;
	f->image = image_open(sb->res.origin_fd, sb->res.origin.image_id);
	return f->image < 0 ? err_errno(&op->err, -f->image, "open the checkpoint's memory image")
			    : 0;
}

int restored_vmm_acquire(struct sandbox *sb, struct op *op)
{
	cleanup(restore_files_done) struct restore_files f = { -1, -1, -1, -1 };
	const char *version = checkpoint_vmm_version(&sb->res.origin, vmm_name(sb->m->vmm));
	struct vmm_restore restore;
	struct vmm_spec spec = { .restore = &restore };
	int r = open_restore_files(sb, &f, op);

	if (r < 0)
		return r;
	restore = (struct vmm_restore){
		.version = version,
		.devices_fd = f.devices,
		.image_fd = f.image,
		.image_id = sb->res.origin.image_id,
		.diff_fd = f.memory,
		.shim_fd = f.shim,
	};
	return vmm_step_start(sb, &spec, op);
}

/* A template's image may be of a smaller disk than is wanted. */
static int grow_disk(struct sandbox *sb, struct guest_wake *wake, struct op *op)
{
	struct disk_spec disk = disk_spec_of(sb);

	if (sb->row.disk_mib <= sb->res.origin.disk_mib)
		return 0;
	wake->disk_bytes = disk.size_bytes;
	return vmm_grow_disk(sb->res.vmm, disk.size_bytes, op);
}

int barrier_cross(struct sandbox *sb, struct guest_wake wake, struct op *op)
{
	struct op child = op_child(op, accel_agent_timeout_ms(sb->m, sb->row.acceleration));
	struct listening l;
	int r = grow_disk(sb, &wake, &child);

	if (r == 0)
		r = vmm_resume(sb->res.vmm, &child);
	if (r < 0) {
		op->err = child.err;
		return r;
	}
	listen_begin(&l, sb, &child, 0);
	r = identity_tell(&sb->row, sb->res.slot.addr, vmm_pidfd(sb->res.vmm), &wake,
			  sb->res.agent_version, &l.op);
	return listen_end(&l, r, op);
}

static int wake_acquire(struct sandbox *sb, struct op *op)
{
	return barrier_cross(sb, (struct guest_wake){ .clone = false }, op);
}

int wake_clone_acquire(struct sandbox *sb, struct op *op)
{
	return barrier_cross(sb, (struct guest_wake){ .clone = true }, op);
}

/* Nothing begins with an image that is not what it was. */
int image_check_acquire(struct sandbox *sb, struct op *op)
{
	return image_check(&sb->m->known_images, sb->res.origin_fd, sb->res.origin.image_id, op);
}

static const struct step resume_steps[] = {
	{ "image", STEP_VOLATILE, image_check_acquire, NULL, NULL },
	{ "layer", STEP_VOLATILE, shared_layer_acquire, layer_release, NULL },
	{ "rundir", STEP_VOLATILE, rundir_acquire, rundir_release, NULL },
	{ "slot", STEP_VOLATILE, slot_acquire, slot_release, NULL },
	{ "cgroup", STEP_VOLATILE, cgroup_acquire, cgroup_release, NULL },
	{ "vmm", STEP_VOLATILE, restored_vmm_acquire, vmm_release, NULL },
	{ "wake", STEP_VOLATILE, wake_acquire, NULL, NULL },
	{ "durable", STEP_VOLATILE, durable_acquire, NULL, NULL },
};

const struct plan resume_plan = { "resume", resume_steps, ARRAY_SIZE(resume_steps) };

static const struct step clone_steps[] = {
	{ "image", STEP_VOLATILE, image_check_acquire, NULL, NULL },
	{ "statedir", STEP_DATA, statedir_acquire, statedir_release, NULL },
	{ "layer", STEP_DATA, shared_layer_acquire, layer_release, NULL },
	{ "rundir", STEP_VOLATILE, rundir_acquire, rundir_release, NULL },
	{ "slot", STEP_VOLATILE, slot_acquire, slot_release, NULL },
	{ "cgroup", STEP_VOLATILE, cgroup_acquire, cgroup_release, NULL },
	{ "vmm", STEP_VOLATILE, restored_vmm_acquire, vmm_release, NULL },
	{ "wake", STEP_VOLATILE, wake_clone_acquire, NULL, NULL },
	{ "durable", STEP_VOLATILE, durable_acquire, NULL, NULL },
};

const struct plan clone_plan = { "clone", clone_steps, ARRAY_SIZE(clone_steps) };
