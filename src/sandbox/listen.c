/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/listen.h"

#include "guest/guest.h"

void listen_begin(struct listening *l, struct sandbox *sb, const struct op *op, uint64_t timeout_ms)
{
	l->op = op_child(op, timeout_ms);
	l->sb = sb;
	vmm_listen(sb->res.vmm, &l->watch, &l->op);
}

static bool stands_still(const struct sandbox *sb)
{
	return vmm_frozen(sb->res.vmm) != VMM_EVENT_NONE;
}

/* Instead of what it meant for the agent's connection. */
static int explain(const struct sandbox *sb, struct op *op)
{
	op->err = (struct err){ 0 };
	if (vmm_frozen(sb->res.vmm) == VMM_EVENT_NO_SPACE)
		return err_set(&op->err, ERR_EXHAUSTED,
			       "the host's disk is full, and the guest cannot go on without what "
			       "it writes (viv df shows what takes room)");
	return err_set(&op->err, ERR_SYSTEM,
		       "the host's disk cannot be used, and the guest cannot go on without what it "
		       "writes");
}

int listen_end(const struct listening *l, int r, struct op *op)
{
	op->err = l->op.err;
	return r < 0 && stands_still(l->sb) ? explain(l->sb, op) : r;
}

int listen_thaw(struct sandbox *sb, struct op *op)
{
	struct listening l;
	int r;

	listen_begin(&l, sb, op, 0);
	r = guest_thaw(sb->res.slot.addr, vmm_pidfd(sb->res.vmm), &l.op);
	if (r < 0 && stands_still(sb))
		return 0;
	return listen_end(&l, r, op);
}
