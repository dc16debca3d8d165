/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Saving a sandbox, as plans: a step's release is the way back from there, so a failure at any
 * point leaves the sandbox running as before. Nothing of the VM is released here; that comes when
 * the whole is durable.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "sandbox/accel-internal.h"
#include "sandbox/listen.h"
#include "sandbox/room.h"
#include "sandbox/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { QUIESCE_TIMEOUT_MS = 5000, QUIESCE_TIMEOUT_TCG_MS = 30000 };

static void listen_quiesce(struct listening *l, struct sandbox *sb, const struct op *op)
{
	bool kvm = streq(sb->row.acceleration, "kvm");

	listen_begin(l, sb, op, kvm ? QUIESCE_TIMEOUT_MS : QUIESCE_TIMEOUT_TCG_MS);
}

/* The guest's processes stand still, and what they wrote is on its disk. */
int quiesce_acquire(struct sandbox *sb, struct op *op)
{
	struct listening l;
	int r;

	listen_quiesce(&l, sb, op);
	r = guest_freeze(sb->res.slot.addr, true, vmm_pidfd(sb->res.vmm), &l.op);
	return listen_end(&l, r, op);
}

static int quiesce_release(struct sandbox *sb, struct op *op)
{
	if (sb->res.vmm == NULL || !vmm_running(sb->res.vmm))
		return 0; /* it ended meanwhile, or stands still, as listen_thaw() has it */
	return listen_thaw(sb, op);
}

int halt_acquire(struct sandbox *sb, struct op *op)
{
	return vmm_pause(sb->res.vmm, op);
}

static int halt_release(struct sandbox *sb, struct op *op)
{
	struct pollfd ended = { .fd = vmm_pidfd(sb->res.vmm), .events = POLLIN };

	if (poll(&ended, 1, 0) != 0)
		return 0; /* it ended meanwhile; the watch tells of it */
	return vmm_resume(sb->res.vmm, op);
}

/* Whose checkpoint it will be. */
static int draft_owner(const struct sandbox *sb)
{
	return sb->res.draft_owner_fd >= 0 ? sb->res.draft_owner_fd : sb->res.dirfd;
}

int draft_acquire(struct sandbox *sb, struct op *op)
{
	struct generations known = { 0 };
	int owner_fd = draft_owner(sb);
	int r = checkpoint_list(owner_fd, &known, op);
	struct checkpoint c = {
		.generation = (known.n > 0 ? known.at[known.n - 1] : 0) + 1,
		.parent = sb->row.generation,
		.kept = sb->res.draft_kept,
		.created_ms = clock_realtime_ms(),
		.cpus = sb->row.cpus,
		.memory_mib = sb->row.memory_mib,
		.disk_mib = sb->row.disk_mib,
	};

	generations_done(&known);
	if (r < 0)
		return r;
	c.generation = MAX(c.generation, sb->row.generation + 1); /* never one that was there */
	accel_cpu(sb->row.acceleration, c.cpu, sizeof(c.cpu));
	snprintf(c.vmm, sizeof(c.vmm), "%s %s", sb->row.vmm_name, sb->row.vmm_version);
	str_copy(c.acceleration, sizeof(c.acceleration), sb->row.acceleration);
	str_copy(c.disk_driver, sizeof(c.disk_driver), sb->row.disk_driver);
	str_copy(c.kernel_version, sizeof(c.kernel_version), sb->row.kernel_version);
	str_copy(c.agent_version, sizeof(c.agent_version), sb->row.agent_version);
	sb->res.draft = c;
	sb->res.draft_fd = checkpoint_begin(owner_fd, op);
	return sb->res.draft_fd < 0 ? sb->res.draft_fd : 0;
}

static int draft_release(struct sandbox *sb, struct op *op)
{
	fd_close(&sb->res.draft_fd);
	return checkpoint_abort(draft_owner(sb), op);
}

static int prepare_cut(struct sandbox *sb, const struct vmm_image *top, struct op *op)
{
	auto_close int fd =
		openat(sb->res.draft_fd, "devices", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct vmm_cut cut = { .devices_fd = fd, .top = top };

	if (fd < 0)
		return err_errno(&op->err, errno, "make the checkpoint's devices");
	return vmm_cut_prepare(sb->res.vmm, &cut, op);
}

int arm_acquire(struct sandbox *sb, struct op *op)
{
	return prepare_cut(sb, NULL, op);
}

static int arm_release(struct sandbox *sb, struct op *op)
{
	guest_line_done(&sb->res.line);
	vmm_cut_done(sb->res.vmm, op);
	return 0;
}

/* The VM writes them while its memory is read. */
int devices_acquire(struct sandbox *sb, struct op *op)
{
	return vmm_cut_begin(sb->res.vmm, op);
}

/* A VMM that could not write does not say why. */
static int cut_error(const struct sandbox *sb, int r, struct err *e)
{
	struct room_disk disk;

	if (e->kind != ERR_VMM || room_disk(&sb->m->config, &disk) < 0 || disk.free > 0)
		return r;
	*e = (struct err){ 0 };
	return err_errno(e, ENOSPC, "write the state of the VM's devices");
}

int settle_acquire(struct sandbox *sb, struct op *op)
{
	int r = vmm_cut_finish(sb->res.vmm, op);

	return r < 0 ? cut_error(sb, r, &op->err) : 0;
}

/* Maps the image that the sandbox's memory began as. */
static int map_image(const struct sandbox *sb, struct memory_image *out, uint64_t *out_id,
		     struct op *op)
{
	auto_close int fd = -1;
	uint64_t id = 0;
	int r = image_find(sb->res.dirfd, &id);

	if (r < 0)
		return err_errno(&op->err, -r, "look for the memory image");
	*out_id = id;
	if (r == 0)
		return 0;
	fd = image_open(sb->res.dirfd, id);
	if (fd < 0)
		return err_errno(&op->err, -fd, "open the memory image");
	return memory_image_map(fd, id, out, &op->err);
}

/* Most of memory is written while the guest goes on, if it can be told what changes meanwhile. */
static int ahead_acquire(struct sandbox *sb, struct op *op)
{
	cleanup(memory_image_done) struct memory_image image = MEMORY_IMAGE_INIT;
	auto_close int fd =
		openat(sb->res.draft_fd, "memory", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	struct ram ram;
	int r;

	if (fd < 0)
		return err_errno(&op->err, errno, "make the checkpoint's memory");
	r = map_image(sb, &image, &sb->res.draft.image_id, op);
	if (r == 0)
		r = vmm_ram(sb->res.vmm, &ram, op);
	return r < 0 ? r : memory_saving_new(&ram, &image, &fd, &sb->res.saving, op);
}

/* It is the sync of all of it that a pause takes long for. */
static int ahead_and_push_acquire(struct sandbox *sb, struct op *op)
{
	int r = ahead_acquire(sb, op);

	if (r == 0)
		memory_saving_push(sb->res.saving);
	return r;
}

static int ahead_release(struct sandbox *sb, struct op *op)
{
	(void)op;
	memory_saving_free(take_ptr(&sb->res.saving));
	return 0;
}

static int memory_acquire(struct sandbox *sb, struct op *op)
{
	return memory_saving_finish(sb->res.saving, &sb->res.draft.memory, op);
}

/* What the checkpoint shares with the sandbox. */
static int share_acquire(struct sandbox *sb, struct op *op)
{
	int r = image_link(sb->res.dirfd, sb->res.draft_fd, sb->res.draft.image_id);

	if (r < 0)
		return err_errno(&op->err, -r, "share the memory image");
	return disk_link(sb->res.dirfd, sb->res.draft_fd, op);
}

int commit_acquire(struct sandbox *sb, struct op *op)
{
	struct checkpoint *c = &sb->res.draft;
	int r = checkpoint_sum_devices(sb->res.draft_fd, &c->devices_bytes, &c->devices_sum);

	if (r < 0)
		return err_errno(&op->err, -r, "read the checkpoint's devices");
	r = checkpoint_commit(draft_owner(sb), sb->res.draft_fd, c, op);
	if (r == 0)
		fd_close(&sb->res.draft_fd);
	return r;
}

/* Its top layer is the sandbox's, which will write to it: it must not stay. */
static int commit_release(struct sandbox *sb, struct op *op)
{
	return checkpoint_remove(draft_owner(sb), sb->res.draft.generation, op);
}

static const struct step pause_steps[] = {
	{ "draft", STEP_VOLATILE, draft_acquire, draft_release, NULL },
	{ "arm", STEP_VOLATILE, arm_acquire, arm_release, NULL },
	{ "ahead", STEP_VOLATILE, ahead_and_push_acquire, ahead_release, NULL },
	{ "quiesce", STEP_VOLATILE, quiesce_acquire, quiesce_release, NULL },
	{ "halt", STEP_VOLATILE, halt_acquire, halt_release, NULL },
	{ "devices", STEP_VOLATILE, devices_acquire, NULL, NULL },
	{ "memory", STEP_VOLATILE, memory_acquire, NULL, NULL },
	{ "settle", STEP_VOLATILE, settle_acquire, NULL, NULL },
	{ "share", STEP_VOLATILE, share_acquire, NULL, NULL },
	{ "commit", STEP_VOLATILE, commit_acquire, commit_release, NULL },
};
static_assert(ARRAY_SIZE(pause_steps) <= PLAN_STEPS_MAX, "every step's time is kept");

const struct plan pause_plan = { "pause", pause_steps, ARRAY_SIZE(pause_steps) };

/* The layer that the guest will write to when it goes on. */
static int next_layer_acquire(struct sandbox *sb, struct op *op)
{
	struct disk_spec spec = disk_spec_of(sb);
	int r = disk_extend(sb->m->disk, &spec, op);

	sb->res.layer_unused = r == 0;
	return r;
}

/* One that the VM may write to stays: the disk has a layer more, and nothing is lost. */
static int next_layer_release(struct sandbox *sb, struct op *op)
{
	if (!sb->res.layer_unused)
		return 0;
	sb->res.layer_unused = false;
	return disk_retract(sb->m->disk, sb->res.dirfd, op);
}

/* In the stop the rest is only copied, since the guest goes on then; and nothing is on its way to
 * the disk, which the VM would wait for. */
static int ahead_and_room_acquire(struct sandbox *sb, struct op *op)
{
	int r = ahead_acquire(sb, op);

	return r < 0 ? r : memory_saving_room(sb->res.saving, &op->err);
}

/* The VM gets the layer ready that it will write to; it stays unused until "devices". */
static int arm_both_acquire(struct sandbox *sb, struct op *op)
{
	struct disk_spec spec = disk_spec_of(sb);
	struct disk_image top = { .fd = -1 };
	struct vmm_image image;
	struct listening l;
	int r;

	listen_quiesce(&l, sb, op);
	r = guest_line_open(&sb->res.line, sb->res.slot.addr, vmm_pidfd(sb->res.vmm), &l.op);
	r = listen_end(&l, r, op);
	if (r < 0)
		return r;
	r = disk_open_top(sb->m->disk, &spec, &top, op);
	if (r < 0)
		return r;
	image = (struct vmm_image){
		.format = top.format == DISK_QCOW2 ? VMM_IMAGE_QCOW2 : VMM_IMAGE_RAW,
		.fd = top.fd,
	};
	r = prepare_cut(sb, &image, op);
	fd_close(&top.fd);
	return r;
}

/* What is not on the disk yet is in the memory that is saved with it. */
static int freeze_acquire(struct sandbox *sb, struct op *op)
{
	struct listening l;

	listen_quiesce(&l, sb, op);
	return listen_end(&l, guest_line_freeze(&sb->res.line, &l.op), op);
}

/* From here on it may be that the VM has the layer. */
static int devices_and_layer_acquire(struct sandbox *sb, struct op *op)
{
	sb->res.layer_unused = false;
	return devices_acquire(sb, op);
}

static int capture_acquire(struct sandbox *sb, struct op *op)
{
	return memory_saving_copy(sb->res.saving, &op->err);
}

/* From here on the sandbox goes on as before. The agent finds the request when it does. */
static int run_acquire(struct sandbox *sb, struct op *op)
{
	struct listening l;
	int r = guest_line_begin_thaw(&sb->res.line, op);

	if (r == 0)
		r = vmm_resume(sb->res.vmm, op);
	if (r < 0)
		return r;
	listen_begin(&l, sb, op, accel_agent_timeout_ms(sb->m, sb->row.acceleration));
	return listen_end(&l, guest_line_finish_thaw(&sb->res.line, &l.op), op);
}

static int write_acquire(struct sandbox *sb, struct op *op)
{
	int r = memory_saving_finish(sb->res.saving, &sb->res.draft.memory, op);

	ignore_err(arm_release(sb, op)); /* neither ever fails */
	ignore_err(ahead_release(sb, op));
	return r;
}

/* The top layer is the sandbox's alone: it is writing to it. */
static int share_below_acquire(struct sandbox *sb, struct op *op)
{
	int r = image_link(sb->res.dirfd, sb->res.draft_fd, sb->res.draft.image_id);

	if (r < 0)
		return err_errno(&op->err, -r, "share the memory image");
	return disk_link_below(sb->m->disk, sb->res.dirfd, sb->res.draft_fd, op);
}

/* What takes long comes before "halt" or behind "run": between them the guest stands still. */
static const struct step checkpoint_steps[] = {
	{ "merge", STEP_VOLATILE, merge_acquire, NULL, NULL },
	{ "chain", STEP_VOLATILE, chain_acquire, NULL, NULL },
	{ "draft", STEP_VOLATILE, draft_acquire, draft_release, NULL },
	{ "layer", STEP_VOLATILE, next_layer_acquire, next_layer_release, NULL },
	{ "arm", STEP_VOLATILE, arm_both_acquire, arm_release, NULL },
	{ "ahead", STEP_VOLATILE, ahead_and_room_acquire, ahead_release, NULL },
	{ "freeze", STEP_VOLATILE, freeze_acquire, quiesce_release, NULL },
	{ "halt", STEP_VOLATILE, halt_acquire, halt_release, NULL },
	{ "devices", STEP_VOLATILE, devices_and_layer_acquire, NULL, NULL },
	{ "capture", STEP_VOLATILE, capture_acquire, NULL, NULL },
	{ "settle", STEP_VOLATILE, settle_acquire, NULL, NULL },
	{ "run", STEP_VOLATILE, run_acquire, NULL, NULL },
	{ "write", STEP_VOLATILE, write_acquire, NULL, NULL },
	{ "share", STEP_VOLATILE, share_below_acquire, NULL, NULL },
	{ "commit", STEP_VOLATILE, commit_acquire, commit_release, NULL },
};
static_assert(ARRAY_SIZE(checkpoint_steps) <= PLAN_STEPS_MAX, "every step's time is kept");

const struct plan checkpoint_plan = { "checkpoint", checkpoint_steps,
				      ARRAY_SIZE(checkpoint_steps) };

static const struct step stop_steps[] = {
	{ "quiesce", STEP_VOLATILE, quiesce_acquire, quiesce_release, NULL },
	{ "halt", STEP_VOLATILE, halt_acquire, halt_release, NULL },
};

const struct plan stop_plan = { "stop", stop_steps, ARRAY_SIZE(stop_steps) };
