/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A ready slot is complete and nobody's. Its link has the alias "ready", which is set as the last
 * step of making it; a claim puts the sandbox's id in its place. So the kernel keeps, for a later
 * daemon too, what is ready and what was left half-made (no alias).
 *
 * Within a daemon a ready slot has its bit in net->ready. The bit, and what is noted of the slot,
 * change only under the slot's mark in net->busy, so that of two claims one gets it and a sweep
 * takes nothing that is being claimed. net->n_pooled is raised before a slot is made: there are
 * never more than pool_size, however many fill the pool at once.
 *
 * The world may have changed while a slot was waiting:
 *
 *	the resolver	The slot's rules lead to the one of their time, which net->rules_for
 *			notes; they are written anew.
 *
 *	the daemon	Another version may have other rules. What a slot has that was adopted is
 *			not known: they are written anew.
 *
 *	the host	Its table is looked for at each claim (host.c).
 *
 *	the slot	Somebody may have deleted the link or the namespace. The claim fails, what
 *			is left is removed, and the next one is tried.
 *
 * The filling writes rules anew before it makes slots; a claim that is sooner does it itself.
 *
 * A slot that was a sandbox's never comes back: nothing of one guest, such as tracked connections,
 * is to be met by another.
 */
#include "net/net-internal.h"

#include "base/fd.h"
#include "base/log.h"
#include "os/link.h"
#include "os/netns.h"

#include <errno.h>

static uint64_t bit_of(unsigned number)
{
	return (uint64_t)1 << number % 64;
}

bool net_pool_has(struct net *net, unsigned number)
{
	return (atomic_load(&net->ready[number / 64]) & bit_of(number)) != 0;
}

void net_pool_put(struct net *net, unsigned number)
{
	atomic_fetch_or(&net->ready[number / 64], bit_of(number));
}

/* Whether it was ready until now. */
static bool pool_leave(struct net *net, unsigned number)
{
	uint64_t bit = bit_of(number);

	if ((atomic_fetch_and(&net->ready[number / 64], ~bit) & bit) == 0)
		return false;
	atomic_fetch_sub(&net->n_pooled, 1);
	return true;
}

/* Whether there is room for one more, which then is taken. */
static bool pool_count(struct net *net)
{
	if (atomic_fetch_add(&net->n_pooled, 1) < net->pool_size)
		return true;
	atomic_fetch_sub(&net->n_pooled, 1);
	return false;
}

unsigned net_pool_ready(struct net *net)
{
	unsigned n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(net->ready); i++)
		n += (unsigned)__builtin_popcountll(atomic_load(&net->ready[i]));
	return n;
}

static int open_slot(struct net_slot *slot, struct err *e)
{
	slot->netns_fd = netns_open(slot->netns);
	if (slot->netns_fd < 0)
		return err_errno(e, -slot->netns_fd, "open network namespace %s", slot->netns);
	return 0;
}

bool net_pool_adopt(struct net *net, unsigned number)
{
	cleanup(net_slot_done) struct net_slot slot;

	net_slot_name(net, number, &slot);
	if (open_slot(&slot, NULL) < 0 || !pool_count(net))
		return false;
	atomic_store(&net->rules_for[number], NET_RULES_UNKNOWN);
	net_pool_put(net, number);
	return true;
}

/* The alias is last: until then the slot is the pool's for whoever comes after a crash. */
static int claim(struct net *net, const struct sandbox_id *id, struct net_slot *slot, int nl,
		 struct op *op)
{
	int r = open_slot(slot, &op->err);

	if (r == 0 && atomic_load(&net->rules_for[slot->number]) != net_resolver())
		r = net_slot_rules(net, slot, op);
	if (r < 0)
		return r;
	r = link_set_alias(nl, slot->link, id->s);
	return r < 0 ? err_errno(&op->err, -r, "claim link %s for %s", slot->link, id->s) : 0;
}

/* Of a slot that is no good. What cannot be removed, the sweep of a later start removes. */
static void discard(const struct net *net, struct net_slot *slot, int nl, const struct err *why)
{
	log_warning("net.ready_slot_unusable", kv_str("link", slot->link),
		    kv_str("error", why->msg));
	net_slot_done(slot);
	ignore_err(net_slot_remove(net, slot, nl, NULL));
}

/* The slot's mark is ours. */
static bool claim_ready(struct net *net, const struct sandbox_id *id, struct net_slot *slot, int nl,
			const struct op *op)
{
	struct op attempt = op_child(op, 0); /* its error is not the end: one can still be made */

	if (!pool_leave(net, slot->number))
		return false;
	if (claim(net, id, slot, nl, &attempt) == 0)
		return true;
	discard(net, slot, nl, &attempt.err);
	return false;
}

bool net_pool_claim(struct net *net, const struct sandbox_id *id, int nl, struct net_slot *out,
		    const struct op *op)
{
	for (unsigned number = 0; number < NET_SLOTS_MAX && op_check(op) == 0; number++) {
		struct net_slot slot;
		bool claimed;

		if (!net_pool_has(net, number) || !net_busy_take(net, number))
			continue;
		net_slot_name(net, number, &slot);
		claimed = claim_ready(net, id, &slot, nl, op);
		net_busy_drop(net, number);
		if (claimed) {
			*out = slot;
			return true;
		}
	}
	return false;
}

/* The slot's mark is ours. Return: 1 its rules were not up to date, and are, or it is gone; 0;
 * -errno with op->err set. */
static int freshen(struct net *net, unsigned number, int nl, struct op *op)
{
	cleanup(net_slot_done) struct net_slot slot;
	struct err gone = { 0 };
	int r;

	net_slot_name(net, number, &slot);
	if (!net_pool_has(net, number) || atomic_load(&net->rules_for[number]) == net_resolver())
		return 0;
	if (open_slot(&slot, &gone) == 0) {
		r = net_slot_rules(net, &slot, op);
		return r < 0 ? r : 1;
	}
	if (pool_leave(net, number))
		discard(net, &slot, nl, &gone);
	return 1;
}

/* Return: 1 one slot is up to date that was not; 0 all are; -errno with op->err set. */
static int freshen_one(struct net *net, int nl, struct op *op)
{
	int r = 0;

	for (unsigned number = 0; number < NET_SLOTS_MAX && r == 0; number++) {
		if (!net_pool_has(net, number) || !net_busy_take(net, number))
			continue;
		r = freshen(net, number, nl, op);
		net_busy_drop(net, number);
	}
	return r;
}

static int make_one(struct net *net, struct op *op)
{
	cleanup(net_slot_done) struct net_slot slot = NET_SLOT_INIT;
	int r;

	if (!pool_count(net))
		return 0;
	r = net_slot_make(net, NULL, &slot, op);
	if (r < 0)
		atomic_fetch_sub(&net->n_pooled, 1);
	return r < 0 ? r : 1;
}

int net_pool_fill(struct net *net, struct op *op)
{
	auto_close int nl = netns_rtnl(-1);
	int r = nl < 0 ? err_errno(&op->err, -nl, "open an rtnetlink socket")
		       : net_host_check(net, nl, op);

	if (r == 0)
		r = freshen_one(net, nl, op);
	return r == 0 ? make_one(net, op) : r;
}

int net_pool_drain(struct net *net, struct err *e)
{
	auto_close int nl = netns_rtnl(-1);
	int failure = 0;

	if (nl < 0)
		return err_errno(e, -nl, "open an rtnetlink socket");
	for (unsigned number = 0; number < NET_SLOTS_MAX; number++) {
		struct net_slot slot;
		int r;

		if (!pool_leave(net, number))
			continue;
		net_slot_name(net, number, &slot);
		r = net_slot_remove(net, &slot, nl, e);
		if (r < 0)
			failure = r;
	}
	return failure;
}
