/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. Addresses are in host byte order. */
#pragma once

#include "net/net.h"

#include "base/buf.h"
#include "base/ipv4.h"

#include <stdatomic.h>

enum { NET_BLOCK_BITS = 10, NET_BLOCK_SIZE = 1 << NET_BLOCK_BITS };
static_assert(2 * NET_SLOTS_MAX == NET_BLOCK_SIZE, "a slot has a pair of the block's addresses");

/* Where no guest may go: this host, private and shared networks, link-local and metadata addresses,
 * benchmarks, multicast, reserved. */
#define NET_BLOCKED(X) IPV4_INTERNAL(X)

/* One of them as an element of an nft set, which may end with a comma. */
#define NET_ELEMENT(a, b, c, d, len) #a "." #b "." #c "." #d "/" #len ", "
#define NET_BLOCKED_ELEMENTS         NET_BLOCKED(NET_ELEMENT)

struct net {
	struct instance_tag tag;
	char link_prefix[12];  /* "viv<tag>-" */
	char netns_prefix[12]; /* "viv-<tag>-" */
	uint32_t block;
	int block_fd;     /* owned: the socket whose name holds the block */
	atomic_uint next; /* the number tried next; going round puts off the reuse of an address */
	atomic_uint_fast64_t busy[NET_SLOTS_MAX / 64]; /* numbers being made or removed right now */
	atomic_uint resolver; /* the last one that the host's table was told of; 0 = none */
	unsigned pool_size;
	atomic_uint n_pooled; /* ready, or being made for the pool; at most pool_size */
	atomic_uint_fast64_t ready[NET_SLOTS_MAX / 64]; /* numbers of complete, unclaimed slots */
	atomic_uint rules_for[NET_SLOTS_MAX];           /* the resolver in a ready slot's rules */
};

/* The alias of a link that is the pool's; no sandbox has such an id. */
#define NET_READY "ready"

/* In net->rules_for: whatever is there, it is not known to be what we would write. */
#define NET_RULES_UNKNOWN UINT32_MAX

#define IPV4_FMT       "%u.%u.%u.%u"
#define IPV4_ARG(addr) (addr) >> 24, (addr) >> 16 & 255, (addr) >> 8 & 255, (addr)&255

/** net_link_number() - the slot that a link of ours belongs to. Return: its number; -1 not ours */
int net_link_number(const struct net *net, const char *link);

/** net_netns_number() - the slot that a namespace of ours belongs to. Return: its number; -1 not
 * ours */
int net_netns_number(const struct net *net, const char *netns);

/**
 * net_block_take() - choose and hold the instance's block: set block and block_fd
 * @nl:		rtnetlink socket of the host
 *
 * Return: 0; -errno with @e set.
 */
must_check int net_block_take(struct net *net, const struct net_config *config, int nl,
			      struct err *e);

/** net_nft() - apply rules, in the namespace @netns_fd or (-1) the caller's.
 * Return: 0; -errno with op->err set */
must_check int net_nft(int netns_fd, const char *rules, struct op *op);

/** net_host_setup() - make or replace the host's table. Return: 0; -errno with op->err set */
must_check int net_host_setup(struct net *net, struct op *op);

/** net_host_remove() - remove the host's table. Return: 0 (also when absent); -errno, op->err set
 */
must_check int net_host_remove(struct net *net, struct op *op);

/**
 * net_host_check() - see to it that the host's table is there, and that the host forwards if it
 * has somewhere to forward to
 * @nl:		rtnetlink socket of the host
 *
 * Return: 0; -errno with op->err set.
 */
must_check int net_host_check(struct net *net, int nl, struct op *op);

/** net_host_resolver() - let guests reach a resolver, if the host's table does not know it yet.
 * Return: 0; -errno with op->err set */
must_check int net_host_resolver(struct net *net, uint32_t resolver, struct op *op);

enum { NET_MARK_SIZE = 17 };

/* The rules of a slot's namespace, as two scripts for nft. */
struct net_rules {
	struct buf base;   /* makes the table, in place of what is there; its egress is empty */
	struct buf egress; /* replaces the egress in a table that is there */
	char base_mark[NET_MARK_SIZE];
	char egress_mark[NET_MARK_SIZE];
};

/**
 * net_rules_write() - write the rules of a slot
 * @resolver:	whom the guest may ask for names; 0 = nobody
 * @egress:	merged lists
 * @rules:	filled in, also in part on failure; net_rules_done() frees it
 *
 * Return: 0; -errno.
 */
must_check int net_rules_write(uint32_t resolver, const struct net_egress *egress,
			       struct net_rules *rules);

/** net_rules_done() - free rules that were written */
void net_rules_done(struct net_rules *rules);

/** net_rules_compare() - whether a namespace has these rules, of either half. Return: 0; -errno */
must_check int net_rules_compare(int netns_fd, const struct net_rules *rules, bool *out_base,
				 bool *out_egress);

/* Below: slot.c and pool.c. Who works on a slot, or on what is noted of it, holds its mark. */

/** net_busy_take() - mark a number. Return: whether it was free */
must_check bool net_busy_take(struct net *net, unsigned number);

/** net_busy_drop() - take the mark off again */
void net_busy_drop(struct net *net, unsigned number);

/** net_slot_name() - the names and the address of a slot, nothing open */
void net_slot_name(const struct net *net, unsigned number, struct net_slot *slot);

/** net_slot_rules() - write the rules of a slot that is nobody's and whose namespace is open, in
 * place of old ones, and note for which resolver. Return: 0; -errno with op->err set */
must_check int net_slot_rules(struct net *net, const struct net_slot *slot, struct op *op);

/**
 * net_slot_make() - make a slot under the first free number
 * @id:		whose it is; NULL = the pool's, which has counted it in net->n_pooled
 *
 * Return: 0; -errno with op->err set.
 */
must_check int net_slot_make(struct net *net, const struct sandbox_id *id, struct net_slot *out,
			     struct op *op);

/** net_slot_remove() - remove a slot, or what is there of it. Return: 0; -errno with @e set */
must_check int net_slot_remove(const struct net *net, const struct net_slot *slot, int nl,
			       struct err *e);

/** net_pool_put() - a slot is ready from now on; it is counted already */
void net_pool_put(struct net *net, unsigned number);

/** net_pool_has() - whether a slot is ready */
bool net_pool_has(struct net *net, unsigned number);

/** net_pool_adopt() - take in a slot with the alias of a ready one. Return: whether there is room
 * and it is whole */
must_check bool net_pool_adopt(struct net *net, unsigned number);

/** net_pool_claim() - claim a ready slot. Return: whether there was one, @out filled */
must_check bool net_pool_claim(struct net *net, const struct sandbox_id *id, int nl,
			       struct net_slot *out, const struct op *op);
