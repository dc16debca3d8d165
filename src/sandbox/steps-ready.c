/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A sandbox that is made before anybody asks for it, and then given to who does.
 *
 * Making it ("ready") is what a create from an image does, but that the guest's processes stay
 * frozen behind the barrier. What a create and its first command will need is rehearsed instead:
 * without KVM nearly all of their time is QEMU's, which translates the guest's code when it is run
 * for the first time. Then the vCPUs stop.
 *
 * Giving it away ("claim") is the barrier again, the same as behind every restore, with the row
 * that the create has made of it. Nothing that was told in the rehearsal is left.
 */
#include "guest/start.h"
#include "sandbox/accel-internal.h"
#include "sandbox/listen.h"
#include "sandbox/steps.h"

static int rehearse_command(struct sandbox *sb, struct op *op)
{
	const struct guest_start what = { .addr = sb->res.slot.addr,
					  .vmm_pidfd = vmm_pidfd(sb->res.vmm) };
	struct listening l;

	listen_begin(&l, sb, op, accel_agent_timeout_ms(sb->m, sb->row.acceleration));
	return listen_end(&l, guest_start_rehearse(&what, &l.op), op);
}

static int rehearse_acquire(struct sandbox *sb, struct op *op)
{
	const struct guest_wake wake = { .clone = true, .rehearsal = true };
	int r = barrier_cross(sb, wake, op);

	if (r == 0)
		r = rehearse_command(sb, op);
	return r < 0 ? r : vmm_pause(sb->res.vmm, op);
}

static const struct step ready_steps[] = {
	{ "image", STEP_VOLATILE, image_check_acquire, NULL, NULL },
	{ "statedir", STEP_DATA, statedir_acquire, statedir_release, NULL },
	{ "layer", STEP_DATA, shared_layer_acquire, layer_release, NULL },
	{ "rundir", STEP_VOLATILE, rundir_acquire, rundir_release, NULL },
	{ "slot", STEP_VOLATILE, slot_acquire, slot_release, NULL },
	{ "cgroup", STEP_VOLATILE, cgroup_acquire, cgroup_release, NULL },
	{ "vmm", STEP_VOLATILE, restored_vmm_acquire, vmm_release, NULL },
	{ "rehearse", STEP_VOLATILE, rehearse_acquire, NULL, NULL },
	{ "durable", STEP_VOLATILE, durable_acquire, NULL, NULL },
};

const struct plan ready_plan = { "ready", ready_steps, ARRAY_SIZE(ready_steps) };

/* Also what the host has changed while it waited: another resolver, or its table was flushed. */
static int rules_acquire(struct sandbox *sb, struct op *op)
{
	cleanup(net_egress_done) struct net_egress egress = { 0 };
	int r = egress_read(sb, &egress, &op->err);

	return r < 0 ? r : net_slot_renew(sb->m->net, &sb->res.slot, &egress, op);
}

static const struct step claim_steps[] = {
	{ "rules", STEP_VOLATILE, rules_acquire, NULL, NULL },
	{ "wake", STEP_VOLATILE, wake_clone_acquire, NULL, NULL },
};

const struct plan claim_plan = { "claim", claim_steps, ARRAY_SIZE(claim_steps) };
