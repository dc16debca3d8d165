/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where a sandbox may go. The row says it; the rules of its slot do it (net/policy.c).
 *
 * They agree whatever ends when:
 *
 *	create		The rules are set with the slot, before there is a VM.
 *
 *	change		First the row, then the rules. If these cannot be set, the row gets what it
 *			had. A daemon killed in between has not answered: the next one finds, as it
 *			adopts the slot, that the rules are not the row's, and sets them.
 *
 *	its VM ends	With the slot its rules go; the next start makes them from the row. A change
 *			under way then has nothing to take back.
 *
 * A change does not make the sandbox busy, since whoever talks to it must not notice. It works in
 * the slot's namespace by a descriptor of its own, and two at a time are a conflict.
 */
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/fault.h"
#include "sandbox/sandbox-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum { CHANGE_TIMEOUT_MS = 10000 };

struct egress_change {
	struct manager *m;
	struct sandbox *sb;        /* NULL = its slot has gone since */
	struct db_egress previous; /* owned: what the row had */
	struct net_egress egress;  /* owned: what is set */
	struct net_slot slot;      /* the names, and a namespace descriptor of our own */
	struct op op;
	int result;
	void (*done)(const struct err *e, void *arg);
	void *arg;
};

int egress_read(const struct sandbox *sb, struct net_egress *out, struct err *e)
{
	const struct db_egress *row = &sb->row.egress;
	int r = net_egress_read(&out->allow, row->allow_out);

	if (r == 0)
		r = net_egress_read(&out->deny, row->deny_out);
	if (r < 0)
		return err_errno(e, -r, "read where sandbox %s may go", sb->row.id.s);
	if (streq(row->internet_access, "false"))
		ipv4_nets_push(&out->deny, (struct ipv4_net){ 0, 0 });
	return 0;
}

static void change_free(struct egress_change *c)
{
	db_egress_done(&c->previous);
	net_egress_done(&c->egress);
	net_slot_done(&c->slot);
	free(c);
}

static void swap_egress(struct db_egress *a, struct db_egress *b)
{
	struct db_egress c = *a;

	*a = *b;
	*b = c;
}

static void change_work(void *arg)
{
	struct egress_change *c = arg;
	const char *fault = c->m->config.fault;
	int r = fault_point(fault, "network", "rules", "before", &c->op.err);

	if (r == 0)
		r = net_slot_egress(&c->slot, &c->egress, &c->op);
	if (r == 0) /* what is done is done: here it can only end by the kill */
		ignore_err(fault_point(fault, "network", "rules", "after", NULL));
	c->result = r;
}

/* The rules are as they were: so is the row. If the store cannot be written, the next change of the
 * row does it, or the next daemon sets the rules. */
static void take_back(struct egress_change *c)
{
	struct sandbox *sb = c->sb;

	swap_egress(&sb->row.egress, &c->previous);
	sandbox_write(sb);
}

static void change_done(void *arg)
{
	struct egress_change *c = arg;
	struct manager *m = c->m;
	struct sandbox *sb = c->sb;

	if (sb != NULL)
		sb->egress_change = NULL;
	if (c->result < 0 && sb != NULL) {
		log_error("sandbox.network_unchanged", kv_str("id", sb->row.id.s),
			  kv_u64("op", c->op.id), kv_str("error", c->op.err.msg));
		take_back(c);
	} else if (c->result == 0 && sb != NULL) {
		log_info("sandbox.network_changed", kv_str("id", sb->row.id.s),
			 kv_u64("allowed", c->egress.allow.n), kv_u64("denied", c->egress.deny.n));
	} else if (c->result < 0) {
		c->op.err = (struct err){ 0 };
		err_set(&c->op.err, ERR_CONFLICT,
			"the sandbox stopped running while its network was changed");
	}
	c->done(c->result < 0 ? &c->op.err : NULL, c->arg);
	change_free(c);
	m->n_busy--;
	manager_operation_ended(m);
}

/* What the worker needs, in @c. The row has the new wish already. */
static int prepare(struct egress_change *c, struct err *e)
{
	struct sandbox *sb = c->sb;
	int r = egress_read(sb, &c->egress, e);

	if (r < 0)
		return r;
	c->slot = sb->res.slot;
	c->slot.tap_fd = -1;
	c->slot.netns_fd = fcntl(sb->res.slot.netns_fd, F_DUPFD_CLOEXEC, 0);
	if (c->slot.netns_fd < 0)
		return err_errno(e, errno, "open network namespace %s again", c->slot.netns);
	return db_sandbox_update(sb->m->db, &sb->row, e);
}

int sandbox_set_egress(struct sandbox *sb, struct db_egress *wish,
		       void (*done)(const struct err *e, void *arg), void *arg, struct err *e)
{
	struct egress_change *c;
	int r = sandbox_check_running(sb, e);

	if (r < 0)
		return r;
	if (sb->unsure || sb->egress_change != NULL || sb->m->closing)
		return err_set(e, ERR_CONFLICT, "the network of sandbox %s is changing; try again",
			       sb->row.id.s);
	c = xcalloc(1, sizeof(*c));
	*c = (struct egress_change){
		.m = sb->m, .sb = sb, .slot = NET_SLOT_INIT, .done = done, .arg = arg
	};
	db_egress_init(&c->previous);
	swap_egress(&c->previous, wish);
	swap_egress(&c->previous, &sb->row.egress);
	r = prepare(c, e);
	if (r < 0) {
		swap_egress(&c->previous, &sb->row.egress);
		change_free(c);
		return r;
	}
	op_init(&c->op, CHANGE_TIMEOUT_MS, -1);
	sb->egress_change = c;
	sb->m->n_busy++;
	work_submit(sb->m->loop, change_work, change_done, c);
	return 0;
}

void egress_detach(struct sandbox *sb)
{
	struct egress_change *c = take_ptr(&sb->egress_change);

	if (c != NULL)
		c->sb = NULL;
}
