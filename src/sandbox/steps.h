/* SPDX-License-Identifier: Apache-2.0 */
/* The steps that several plans have, and the plans. */
#pragma once

#include "sandbox/sandbox-internal.h"

/* Makes a sandbox from its template: boots it. Every sandbox has these resources, wherever it came
 * from: so its releases are everybody's. */
extern const struct plan create_plan;

/* Boots a stopped sandbox from its newest disk. */
extern const struct plan start_plan;

/* Makes a sandbox from the checkpoint that res.origin is. */
extern const struct plan clone_plan;

/* Makes a sandbox from its template's image, before anybody asks for it: all but the barrier. */
extern const struct plan ready_plan;

/* Gives such a one to a create. Backwards nothing: it still is all that ready_plan made. */
extern const struct plan claim_plan;

/* Goes on with a sandbox from the checkpoint that res.origin is. */
extern const struct plan resume_plan;

/* Saves a running sandbox to a checkpoint and leaves it frozen; backwards it runs on. */
extern const struct plan pause_plan;

/* Saves a running sandbox to a checkpoint, in which it goes on after a moment. */
extern const struct plan checkpoint_plan;

/* Brings a running sandbox's disk to rest and leaves it frozen; backwards it runs on. */
extern const struct plan stop_plan;

/* Steps as struct step has them. */

/** statedir_acquire(), statedir_release(), statedir_adopt() - the sandbox's directory */
int statedir_acquire(struct sandbox *sb, struct op *op);
int statedir_release(struct sandbox *sb, struct op *op);
int statedir_adopt(struct sandbox *sb, struct op *op);

/** layer_release() - its disk */
int layer_release(struct sandbox *sb, struct op *op);

/** rundir_acquire(), rundir_release() - its run directory, with the console's log */
int rundir_acquire(struct sandbox *sb, struct op *op);
int rundir_release(struct sandbox *sb, struct op *op);

/** slot_acquire(), slot_release() - its network slot, with its rules */
int slot_acquire(struct sandbox *sb, struct op *op);
int slot_release(struct sandbox *sb, struct op *op);

/** cgroup_acquire(), cgroup_release() - its VMM's cgroup */
int cgroup_acquire(struct sandbox *sb, struct op *op);
int cgroup_release(struct sandbox *sb, struct op *op);

/** vmm_acquire(), vmm_release() - its VMM, booting */
int vmm_acquire(struct sandbox *sb, struct op *op);
int vmm_release(struct sandbox *sb, struct op *op);

/** agent_acquire() - the agent of a booted guest, told who it is */
int agent_acquire(struct sandbox *sb, struct op *op);

/** start_acquire() - what its template has run from the beginning, and that is ready */
int start_acquire(struct sandbox *sb, struct op *op);

/** quiesce_acquire() - its guest's processes stand still, and what they wrote is on its disk */
int quiesce_acquire(struct sandbox *sb, struct op *op);

/** halt_acquire() - its vCPUs stand still */
int halt_acquire(struct sandbox *sb, struct op *op);

/** draft_acquire() - begin a checkpoint in its directory */
int draft_acquire(struct sandbox *sb, struct op *op);

/** arm_acquire() - its VM gets ready to save its devices and CPUs into that */
int arm_acquire(struct sandbox *sb, struct op *op);

/** devices_acquire() - it begins to; settle_acquire() - it has */
int devices_acquire(struct sandbox *sb, struct op *op);
int settle_acquire(struct sandbox *sb, struct op *op);

/** commit_acquire() - make the checkpoint whole and durable */
int commit_acquire(struct sandbox *sb, struct op *op);

/**
 * durable_begin() - make the sandbox's new disk, and the way to it, durable while other steps run
 *
 * Return: 0; -errno with op->err set.
 */
must_check int durable_begin(struct sandbox *sb, struct op *op);

/** durable_acquire() - wait until it is; after durable_begin() */
int durable_acquire(struct sandbox *sb, struct op *op);

/** durable_end() - after the plan, whatever came of it: no thread is left; idempotent. Waits for
 * the disk if a step between failed. Thread: worker */
void durable_end(struct resources *res);

/** shared_layer_acquire() - its disk over that of the checkpoint that res.origin is, and the memory
 * image of that */
int shared_layer_acquire(struct sandbox *sb, struct op *op);

/** image_check_acquire() - find out whether the image that its memory lies on has the bytes that it
 * was made with; they are read once by each vivd (images.h) */
int image_check_acquire(struct sandbox *sb, struct op *op);

/** restored_vmm_acquire() - its VMM, with all of that checkpoint, paused */
int restored_vmm_acquire(struct sandbox *sb, struct op *op);

/** wake_clone_acquire() - the barrier, of one whose memory others have as well */
int wake_clone_acquire(struct sandbox *sb, struct op *op);

/**
 * barrier_cross() - have a restored VM run, and its agent told all that is new
 * @wake:	but for the size of its disk, which is known here
 *
 * Return: 0; -errno with op->err set.
 */
must_check int barrier_cross(struct sandbox *sb, struct guest_wake wake, struct op *op);

/** merge_acquire() - what was merged of its disk's layers is in place */
int merge_acquire(struct sandbox *sb, struct op *op);

/** chain_acquire() - its VMM reads through the layers that its disk is now, and there is room for
 * another one */
int chain_acquire(struct sandbox *sb, struct op *op);

/** disk_images() - a disk as a VMM wants it; the descriptors stay the disk's */
void disk_images(const struct disk *d, struct vmm_image out[DISK_CHAIN_MAX]);

/** disk_spec_of() - a sandbox's own disk */
struct disk_spec disk_spec_of(const struct sandbox *sb);

/**
 * vmm_step_start() - start a sandbox's VMM with the parts of @spec that say what it begins with;
 * the rest is filled in here
 *
 * Return: 0; -errno with op->err set.
 */
must_check int vmm_step_start(struct sandbox *sb, struct vmm_spec *spec, struct op *op);
