/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 *	host                       |  namespace viv-<tag>-N                     |  guest
 *	viv<tag>-N  block+2N/31 -----  up0  block+2N+1/31  NAT  tap0  .22/30 -----  169.254.0.21
 *
 * A slot is made in this order:
 *
 *	1. the namespace	its name goes to the first who asks for it
 *	2. the veth pair	its name too; the peer is born inside
 *	3. the alias		from here on the slot is found by the sandbox's id
 *	4. the rest		addresses, routes, sysctls, rules
 *
 * and removed by deleting the link, then the namespace: as long as there is a link, its alias tells
 * whose it is. A slot for the pool gets its alias "ready" after all the rest (pool.c).
 *
 * A failure undoes what was made. A kill before 3, or between the two parts of a removal, leaves a
 * slot that no id finds: a namespace without link or a link without alias. These are the sweep's.
 * So that it takes none that is just being made, a number that is worked on is marked in net->busy,
 * and the sweep looks again once it has the mark.
 *
 * Addresses and MACs on the guest's side are the same in every slot, and known: no ARP is needed.
 */
#include "net/net-internal.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "os/conntrack.h"
#include "os/link.h"
#include "os/netns.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>

#define UPLINK "up0"

static const unsigned char guest_mac[6] = { 0x02, 0x76, 0x69, 0x76, 0x00, 0x01 };
static const unsigned char gateway_mac[6] = { 0x02, 0x76, 0x69, 0x76, 0x00, 0x02 };

enum { PAIR_PREFIX_LEN = 31 };

static uint32_t host_addr(const struct net *net, unsigned number)
{
	return net->block + 2 * number;
}

static uint32_t slot_addr(const struct net *net, unsigned number)
{
	return net->block + 2 * number + 1;
}

bool net_busy_take(struct net *net, unsigned number)
{
	uint64_t bit = (uint64_t)1 << number % 64;

	return (atomic_fetch_or(&net->busy[number / 64], bit) & bit) == 0;
}

void net_busy_drop(struct net *net, unsigned number)
{
	atomic_fetch_and(&net->busy[number / 64], ~((uint64_t)1 << number % 64));
}

void net_slot_name(const struct net *net, unsigned number, struct net_slot *slot)
{
	*slot = (struct net_slot)NET_SLOT_INIT;
	slot->number = number;
	slot->addr.s_addr = htonl(slot_addr(net, number));
	/* all three fit: the tag has four characters, the number at most three */
	ignore_err(str_fit(slot->netns, sizeof(slot->netns), "%s%u", net->netns_prefix, number));
	ignore_err(str_fit(slot->link, sizeof(slot->link), "%s%u", net->link_prefix, number));
	ignore_err(str_fit(slot->tap, sizeof(slot->tap), "tap0"));
}

void net_slot_done(struct net_slot *slot)
{
	fd_close(&slot->tap_fd);
	fd_close(&slot->netns_fd);
}

int net_slot_remove(const struct net *net, const struct net_slot *slot, int nl, struct err *e)
{
	int r = link_delete(nl, slot->link);

	if (r < 0 && r != -ENODEV)
		return err_errno(e, -r, "delete link %s", slot->link);
	r = netns_delete(slot->netns);
	if (r < 0)
		return err_errno(e, -r, "delete network namespace %s", slot->netns);
	/* or else answers to its connections would reach the next slot with this address */
	r = conntrack_forget(slot_addr(net, slot->number));
	if (r < 0)
		return err_errno(e, -r, "forget the connections of slot %u", slot->number);
	return 0;
}

/* Return: 0; 1 there is such a link; -errno with @e set. */
static int slot_join(struct net_slot *slot, int nl, struct err *e)
{
	int r;

	slot->netns_fd = netns_open(slot->netns);
	if (slot->netns_fd < 0)
		return err_errno(e, -slot->netns_fd, "open network namespace %s", slot->netns);
	r = link_add_veth(nl, slot->link, UPLINK, slot->netns_fd);
	if (r == -EEXIST)
		return 1;
	return r < 0 ? err_errno(e, -r, "make link %s", slot->link) : 0;
}

/* A setting of a link of ours on the host; one that this kernel does not have is none to be set. */
static int link_sysctl(const char *family, const char *link, const char *name, struct err *e,
		       const char *value)
{
	auto_free char *path = str_printf("/proc/sys/net/%s/conf/%s/%s", family, link, name);
	int r = file_write_at(AT_FDCWD, path, value);

	return r < 0 && r != -ENOENT ? err_errno(e, -r, "write %s to %s", value, path) : 0;
}

static int setup_host(const struct net *net, const struct net_slot *slot, int nl, struct err *e)
{
	int r = link_sysctl("ipv6", slot->link, "disable_ipv6", e, "1");

	if (r == 0)
		r = link_sysctl("ipv4", slot->link, "forwarding", e, "1");
	if (r < 0)
		return r;
	r = link_add_addr(nl, slot->link, host_addr(net, slot->number), PAIR_PREFIX_LEN);
	if (r == 0)
		r = link_set_up(nl, slot->link);
	return r < 0 ? err_errno(e, -r, "set up link %s", slot->link) : 0;
}

static int namespace_sysctls(void *arg)
{
	int r = file_write_at(AT_FDCWD, "/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");

	(void)arg;
	if (r < 0 && r != -ENOENT) /* a kernel without IPv6 */
		return r;
	return file_write_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", "1");
}

static int setup_namespace(const struct net *net, const struct net_slot *slot, struct err *e)
{
	auto_close int nl = netns_rtnl(slot->netns_fd);
	int r = nl < 0 ? nl : netns_call(slot->netns_fd, namespace_sysctls, NULL);

	if (r == 0)
		r = link_add_addr(nl, UPLINK, slot_addr(net, slot->number), PAIR_PREFIX_LEN);
	if (r == 0)
		r = link_set_up(nl, UPLINK);
	if (r == 0)
		r = link_add_default_route(nl, host_addr(net, slot->number));
	return r < 0 ? err_errno(e, -r, "set up network namespace %s", slot->netns) : 0;
}

static int write_rules(const struct net_slot *slot, uint32_t resolver, struct net_egress *egress,
		       struct net_rules *rules, struct err *e)
{
	int r;

	net_egress_merge(&egress->allow);
	net_egress_merge(&egress->deny);
	r = net_rules_write(resolver, egress, rules);
	return r < 0 ? err_errno(e, -r, "write the rules of %s", slot->netns) : 0;
}

/* The whole table anew. */
static int set_rules(struct net *net, const struct net_slot *slot, uint32_t resolver,
		     struct net_rules *rules, struct op *op)
{
	int r = net_host_resolver(net, resolver, op);

	if (r < 0)
		return r;
	r = buf_append(&rules->base, buf_str(&rules->egress), rules->egress.len);
	if (r < 0)
		return err_errno(&op->err, -r, "write the rules of %s", slot->netns);
	r = net_nft(slot->netns_fd, buf_str(&rules->base), op);
	return r < 0 ? err_wrap(&op->err, "set the rules of %s", slot->netns) : 0;
}

int net_slot_rules(struct net *net, const struct net_slot *slot, struct op *op)
{
	cleanup(net_rules_done) struct net_rules rules = { 0 };
	struct net_egress open = { 0 };
	uint32_t resolver = net_resolver();
	int r = write_rules(slot, resolver, &open, &rules, &op->err);

	if (r == 0)
		r = set_rules(net, slot, resolver, &rules, op);
	if (r == 0)
		atomic_store(&net->rules_for[slot->number], resolver);
	return r;
}

/* An nft that was ended may have done its work before. */
static int set_egress(const struct net_slot *slot, struct net_rules *rules, struct op *op)
{
	bool base = false, egress = false;
	int r = net_nft(slot->netns_fd, buf_str(&rules->egress), op);

	if (r < 0 && net_rules_compare(slot->netns_fd, rules, &base, &egress) == 0 && egress) {
		op->err = (struct err){ 0 };
		return 0;
	}
	return r < 0 ? err_wrap(&op->err, "set the egress of %s", slot->netns) : 0;
}

int net_slot_egress(const struct net_slot *slot, struct net_egress *egress, struct op *op)
{
	cleanup(net_rules_done) struct net_rules rules = { 0 };
	int r = write_rules(slot, 0, egress, &rules, &op->err);

	return r < 0 ? r : set_egress(slot, &rules, op);
}

int net_slot_renew(struct net *net, const struct net_slot *slot, struct net_egress *egress,
		   struct op *op)
{
	cleanup(net_rules_done) struct net_rules rules = { 0 };
	bool base_is_right = false, egress_is_right = false;
	uint32_t resolver = net_resolver();
	auto_close int nl = netns_rtnl(-1);
	int r = nl < 0 ? err_errno(&op->err, -nl, "open an rtnetlink socket")
		       : net_host_check(net, nl, op);

	if (r == 0)
		r = write_rules(slot, resolver, egress, &rules, &op->err);
	if (r < 0)
		return r;
	r = net_rules_compare(slot->netns_fd, &rules, &base_is_right, &egress_is_right);
	if (r < 0)
		return err_errno(&op->err, -r, "look at the rules of %s", slot->netns);
	if (!base_is_right)
		return set_rules(net, slot, resolver, &rules, op);
	return egress_is_right ? 0 : set_egress(slot, &rules, op);
}

static int set_alias(const struct net_slot *slot, const char *alias, int nl, struct err *e)
{
	int r = link_set_alias(nl, slot->link, alias);

	return r < 0 ? err_errno(e, -r, "mark link %s as %s", slot->link, alias) : 0;
}

static int slot_build(struct net *net, const struct net_slot *slot, const struct sandbox_id *id,
		      int nl, struct op *op)
{
	int r = id != NULL ? set_alias(slot, id->s, nl, &op->err) : 0;

	if (r == 0)
		r = setup_host(net, slot, nl, &op->err);
	if (r == 0)
		r = setup_namespace(net, slot, &op->err);
	if (r == 0)
		r = net_slot_rules(net, slot, op);
	if (r < 0)
		return r;
	r = link_sync(nl, slot->link);
	if (r < 0)
		return err_errno(&op->err, -r, "wait for link %s", slot->link);
	return id == NULL ? set_alias(slot, NET_READY, nl, &op->err) : 0;
}

/* Return: 0; 1 the number is taken; -errno with op->err set. */
static int make_number(struct net *net, unsigned number, const struct sandbox_id *id,
		       struct net_slot *out, struct op *op)
{
	cleanup(net_slot_done) struct net_slot slot;
	auto_close int nl = netns_rtnl(-1);
	int r;

	net_slot_name(net, number, &slot);
	if (nl < 0)
		return err_errno(&op->err, -nl, "open an rtnetlink socket");
	r = netns_create(slot.netns, &op->err);
	if (r < 0)
		return r == -EEXIST && !err_is_set(&op->err) ? 1 : r;
	r = slot_join(&slot, nl, &op->err);
	if (r != 0) {
		ignore_err(netns_delete(slot.netns)); /* left behind, it is the sweep's */
		return r;
	}
	r = slot_build(net, &slot, id, nl, op);
	if (r < 0) {
		ignore_err(net_slot_remove(net, &slot, nl, NULL)); /* as above */
		return r;
	}
	if (id == NULL)
		net_pool_put(net, number);
	*out = slot;
	slot = (struct net_slot)NET_SLOT_INIT;
	return 0;
}

int net_slot_make(struct net *net, const struct sandbox_id *id, struct net_slot *out, struct op *op)
{
	unsigned first = atomic_fetch_add(&net->next, 1);

	for (unsigned i = 0; i < NET_SLOTS_MAX; i++) {
		unsigned number = (first + i) % NET_SLOTS_MAX;
		int r = op_check(op);

		if (r < 0)
			return err_errno(&op->err, -r, "make a network slot");
		if (!net_busy_take(net, number))
			continue;
		r = make_number(net, number, id, out, op);
		net_busy_drop(net, number);
		if (r < 0)
			return err_wrap(&op->err, "make network slot %u", number);
		if (r == 0)
			return 0;
	}
	return err_set(&op->err, ERR_EXHAUSTED,
		       "all %d network slots of this instance are taken: pause or delete a sandbox",
		       NET_SLOTS_MAX);
}

int net_slot_acquire(struct net *net, const struct sandbox_id *id, struct net_slot *out,
		     struct op *op)
{
	auto_close int nl = netns_rtnl(-1);
	int r = nl < 0 ? nl : op_check(op);

	if (r < 0)
		return err_errno(&op->err, -r, "find a network slot for %s", id->s);
	r = net_host_check(net, nl, op);
	if (r < 0 || net_pool_claim(net, id, nl, out, op))
		return r;
	return net_slot_make(net, id, out, op);
}

static int setup_tap(const struct net_slot *slot)
{
	auto_close int nl = netns_rtnl(slot->netns_fd);
	int r = nl < 0 ? nl : link_add_addr(nl, slot->tap, NET_GATEWAY_ADDR, NET_PREFIX_LEN);

	if (r == 0)
		r = link_set_up(nl, slot->tap);
	if (r == 0)
		r = link_add_neigh(nl, slot->tap, NET_GUEST_ADDR, guest_mac);
	return r;
}

int net_slot_tap(struct net_slot *slot, struct op *op)
{
	auto_close int tap = -1;
	int r;

	fd_close(&slot->tap_fd);
	tap = netns_tap(slot->netns_fd, slot->tap, gateway_mac);
	if (tap == -EBUSY)
		return err_set(&op->err, ERR_CONFLICT, "a VMM still has %s in %s open", slot->tap,
			       slot->netns);
	if (tap < 0)
		return err_errno(&op->err, -tap, "make %s in %s", slot->tap, slot->netns);
	r = setup_tap(slot);
	if (r < 0)
		return err_errno(&op->err, -r, "set up %s in %s", slot->tap, slot->netns);
	slot->tap_fd = take_fd(&tap);
	return 0;
}

struct claim {
	const struct net *net;
	const char *id;
	int number; /* -1 = none found */
};

static int match_claim(const struct link_info *link, void *arg)
{
	struct claim *claim = arg;
	int number = net_link_number(claim->net, link->name);

	if (number >= 0 && streq(link->alias, claim->id))
		claim->number = number;
	return 0;
}

/* Return: 1 with the slot's names in @slot; 0 none; -errno with @e set. */
static int find_claimed(const struct net *net, const struct sandbox_id *id, int nl,
			struct net_slot *slot, struct err *e)
{
	struct claim claim = { .net = net, .id = id->s, .number = -1 };
	int r = nl < 0 ? nl : link_list(nl, match_claim, &claim);

	if (r < 0)
		return err_errno(e, -r, "look for the network slot of %s", id->s);
	if (claim.number < 0)
		return 0;
	net_slot_name(net, (unsigned)claim.number, slot);
	return 1;
}

int net_slot_release(struct net *net, const struct sandbox_id *id, struct op *op)
{
	auto_close int nl = netns_rtnl(-1);
	struct net_slot slot = NET_SLOT_INIT;
	int r = find_claimed(net, id, nl, &slot, &op->err);

	if (r <= 0)
		return r;
	if (!net_busy_take(net, slot.number))
		return err_set(&op->err, ERR_CONFLICT, "network slot %u of %s is being removed",
			       slot.number, id->s);
	r = net_slot_remove(net, &slot, nl, &op->err);
	net_busy_drop(net, slot.number);
	return r;
}

int net_slot_adopt(struct net *net, const struct sandbox_id *id, struct net_slot *out,
		   struct op *op)
{
	auto_close int nl = netns_rtnl(-1);
	struct net_slot slot = NET_SLOT_INIT;
	int r = find_claimed(net, id, nl, &slot, &op->err);

	if (r <= 0)
		return r;
	slot.netns_fd = netns_open(slot.netns);
	if (slot.netns_fd == -ENOENT)
		return 0;
	if (slot.netns_fd < 0)
		return err_errno(&op->err, -slot.netns_fd, "open network namespace %s", slot.netns);
	*out = slot;
	return 1;
}

struct census {
	struct net *net;
	bool (*known)(const struct sandbox_id *id, void *arg);
	void (*tell)(const struct net_slot *slot, void *arg); /* NULL = remove what nobody owns */
	void *arg;
	bool seen[NET_SLOTS_MAX];
	bool owned[NET_SLOTS_MAX];
	bool ready[NET_SLOTS_MAX];
};

static int count_link(const struct link_info *link, void *arg)
{
	struct census *census = arg;
	int number = net_link_number(census->net, link->name);
	struct sandbox_id id;

	if (number < 0)
		return 0;
	census->seen[number] = true;
	census->owned[number] = id_parse(link->alias, &id) == 0 && census->known(&id, census->arg);
	census->ready[number] = streq(link->alias, NET_READY);
	return 0;
}

static int count_netns(const char *name, void *arg)
{
	struct census *census = arg;
	int number = net_netns_number(census->net, name);

	if (number >= 0)
		census->seen[number] = true;
	return 0;
}

/* Return: 1 removed or told; 0 it has an owner after all, or is the pool's; -errno with @e set. */
static int sweep_slot(struct census *census, unsigned number, int nl, struct err *e)
{
	struct net_slot slot;
	int r;

	net_slot_name(census->net, number, &slot);
	census->ready[number] = false; /* the link may have gone since */
	r = link_list(nl, count_link, census);
	if (r < 0)
		return err_errno(e, -r, "look at link %s again", slot.link);
	if (census->owned[number] || net_pool_has(census->net, number))
		return 0;
	if (census->tell != NULL) {
		census->tell(&slot, census->arg);
		return 1;
	}
	if (census->ready[number] && net_pool_adopt(census->net, number))
		return 0;
	r = net_slot_remove(census->net, &slot, nl, e);
	return r < 0 ? r : 1;
}

static int each_unowned(struct net *net, struct census *census, struct op *op)
{
	auto_close int nl = netns_rtnl(-1);
	int failure = 0, hits = 0;
	int r = nl < 0 ? nl : link_list(nl, count_link, census);

	if (r == 0)
		r = netns_list(count_netns, census);
	if (r < 0)
		return err_errno(&op->err, -r, "list the network slots of %s", net->tag.s);
	for (unsigned n = 0; n < NET_SLOTS_MAX; n++) {
		if (!census->seen[n] || census->owned[n] || !net_busy_take(net, n))
			continue;
		r = sweep_slot(census, n, nl, &op->err);
		net_busy_drop(net, n);
		if (r < 0)
			failure = r;
		else
			hits += r;
	}
	return failure < 0 ? failure : hits;
}

int net_sweep(struct net *net, bool (*known)(const struct sandbox_id *id, void *arg), void *arg,
	      struct op *op)
{
	struct census census = { .net = net, .known = known, .arg = arg };

	return each_unowned(net, &census, op);
}

int net_survey(struct net *net, bool (*known)(const struct sandbox_id *id, void *arg),
	       void (*tell)(const struct net_slot *slot, void *arg), void *arg, struct op *op)
{
	struct census census = { .net = net, .known = known, .tell = tell, .arg = arg };

	return each_unowned(net, &census, op);
}
