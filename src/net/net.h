/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network slots. Every sandbox sees the same inside: 169.254.0.21/30 on eth0 with gateway .22 and
 * the same MAC, so that a snapshot restores anywhere. Around it a slot: a network namespace with a
 * tap, a veth pair to the host, NAT both ways, and a host-side address of its own from the
 * instance's block.
 *
 * Names: slot N of instance T has the namespace viv-T-N and the host link vivT-N, whose alias is
 * the id of the sandbox that claimed it. The alias "ready" is of a slot that was made ahead and
 * that nobody has claimed yet; one without alias is being made, or was left half-made.
 */
#pragma once

#include "base/id.h"
#include "base/op.h"
#include "net/egress.h"

#include <netinet/in.h>

enum { NET_SLOTS_MAX = 512 };

#define NET_GUEST_ADDR   0xa9fe0015U /* 169.254.0.21 */
#define NET_GATEWAY_ADDR 0xa9fe0016U /* 169.254.0.22 */
#define NET_PREFIX_LEN   30
#define NET_GUEST_MAC    "02:76:69:76:00:01"

struct net;

struct net_config {
	struct instance_tag tag;
	uint32_t range_addr;   /* the range that instances share, host byte order: 10.11.0.0 */
	unsigned range_prefix; /* 16; each instance takes a block of 1024 addresses of it */
	uint32_t block_hint;   /* first address of the block used last time; 0 = none */
	unsigned pool_size;    /* slots made ahead; 0 = none */
};

/**
 * net_open() - take the instance's address block and set up what is shared by its slots
 *
 * The block: the hint unless another instance holds it, else the first free one. It is held by an
 * abstract socket while the daemon lives and by its slots' addresses after that. The host's table
 * (nft "vivarium_<tag>") lets guests out by masquerading when there is an uplink, never to the
 * host, other sandboxes, private ranges or link-local addresses. A missing uplink is no error.
 *
 * Thread: main, at start. Return: 0; -errno with @e set.
 */
must_check int net_open(const struct net_config *config, struct net **out, struct err *e);

/**
 * net_open_remains() - the network of an instance that no daemon serves, to see and to remove what
 * is left of it: nothing is made or held
 * @block:	that was used last; 0 = unknown
 */
struct net *net_open_remains(const struct instance_tag *tag, uint32_t block);

/** net_block() - first address of the block that was taken, to be kept as the next hint */
uint32_t net_block(const struct net *net);

/** net_close() - forget the network and release the block; slots and the host's table stay */
void net_close(struct net *net);

/**
 * net_teardown() - remove the host's table if no slot of the instance is left
 *
 * Thread: main, at a clean end. Return: 0; -errno with @e set.
 */
must_check int net_teardown(struct net *net, struct err *e);

struct net_slot {
	unsigned number; /* 0 .. NET_SLOTS_MAX - 1 */
	char netns[32];
	char link[16];       /* the host's end of the veth pair */
	char tap[16];        /* inside the namespace */
	int netns_fd;        /* owned; -1 */
	int tap_fd;          /* owned; -1: only while a VMM is about to be started */
	struct in_addr addr; /* the guest as the host sees it, network byte order */
};

#define NET_SLOT_INIT                                                                              \
	{                                                                                          \
		.netns_fd = -1, .tap_fd = -1                                                       \
	}

/**
 * net_slot_acquire() - claim a slot for a sandbox: a ready one, or else one that is made now
 * @out:	NET_SLOT_INIT; on success with netns_fd open and no tap yet
 *
 * The claim is the link's alias, set before anything else uses the slot. Thread: worker, several at
 * once. Return: 0; -errno with op->err set (ERR_EXHAUSTED: all slots are taken).
 */
must_check int net_slot_acquire(struct net *net, const struct sandbox_id *id, struct net_slot *out,
				struct op *op);

/** net_slot_tap() - make the tap of a claimed slot and keep its descriptor in slot->tap_fd; it is
 * up. Return: 0; -errno with op->err set */
must_check int net_slot_tap(struct net_slot *slot, struct op *op);

/**
 * net_slot_release() - give up whatever slot is claimed by a sandbox; needs only the id
 *
 * Thread: worker. Return: 0 (also when there is none); -errno with op->err set.
 */
must_check int net_slot_release(struct net *net, const struct sandbox_id *id, struct op *op);

/** net_slot_adopt() - find the slot claimed by a sandbox again and open its namespace.
 * Return: 1 found, @out filled; 0 none; -errno with op->err set when unsure */
must_check int net_slot_adopt(struct net *net, const struct sandbox_id *id, struct net_slot *out,
			      struct op *op);

/**
 * net_slot_egress() - set where the guest of a slot may go, in place of what was set before
 * @slot:	with netns_fd open
 * @egress:	its lists are merged
 *
 * One step for the kernel: each packet is judged by all of the old or all of the new. Connections
 * that it denies are cut. Thread: worker, also while the guest runs.
 * Return: 0; -errno with op->err set: nothing has changed.
 */
must_check int net_slot_egress(const struct net_slot *slot, struct net_egress *egress,
			       struct op *op);

/**
 * net_slot_renew() - see to it that a slot which was adopted, or has waited, has the rules that
 * would be written now, with this egress, and that the host's table is there; only what is not as
 * it should be is written
 * @egress:	its lists are merged
 *
 * Return: 0; -errno with op->err set.
 */
must_check int net_slot_renew(struct net *net, const struct net_slot *slot,
			      struct net_egress *egress, struct op *op);

/** net_slot_done() - close the descriptors; the slot stays; idempotent */
void net_slot_done(struct net_slot *slot);

/**
 * net_pool_fill() - do one thing for the pool: write the rules of a ready slot anew if they are not
 * what would be written now, or make one more slot
 *
 * Thread: worker; beside anything. Return: 1 done, there may be more to do; 0 the pool is full;
 * -errno with op->err set.
 */
must_check int net_pool_fill(struct net *net, struct op *op);

/** net_pool_ready() - how many slots are ready to be claimed */
unsigned net_pool_ready(struct net *net);

/**
 * net_pool_drain() - remove the ready slots
 *
 * Thread: main, at a clean end, when nothing fills the pool any more.
 * Return: 0; -errno with @e set: what is left is the next daemon's.
 */
must_check int net_pool_drain(struct net *net, struct err *e);

/**
 * net_sweep() - remove this instance's slots that no sandbox of @known owns: links without alias or
 * with the alias of an unknown id, namespaces without link, and of the ready slots those beyond the
 * size of the pool; the other ready ones are the pool's from now on
 * @known:	whether an id is a sandbox of ours
 *
 * Return: how many were removed; -errno with op->err set.
 */
must_check int net_sweep(struct net *net, bool (*known)(const struct sandbox_id *id, void *arg),
			 void *arg, struct op *op);

/**
 * net_survey() - tell what net_sweep() would remove; of the slots that are told, only the names are
 * set
 *
 * Return: how many were told; -errno with op->err set.
 */
must_check int net_survey(struct net *net, bool (*known)(const struct sandbox_id *id, void *arg),
			  void (*tell)(const struct net_slot *slot, void *arg), void *arg,
			  struct op *op);

/** net_slot_named() - whether a link or a namespace has the name of a slot of this instance */
bool net_slot_named(const struct net *net, const char *name);

/** net_resolver() - the host's first IPv4 resolver that is no loopback address; 0 = none */
uint32_t net_resolver(void);
