/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of this folder share. Addresses are in host byte order. */
#pragma once

#include "net/net.h"

#include "base/buf.h"

#include <stdatomic.h>

enum { NET_BLOCK_BITS = 10, NET_BLOCK_SIZE = 1 << NET_BLOCK_BITS };
static_assert(2 * NET_SLOTS_MAX == NET_BLOCK_SIZE, "a slot has a pair of the block's addresses");

/* Where no guest may go, as elements of an nft set: this host, private and shared networks,
 * link-local and metadata addresses, benchmarks, multicast, reserved. */
#define NET_BLOCKED                                                                                \
	"0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, "       \
	"192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/4, 240.0.0.0/4"

struct net {
	struct instance_tag tag;
	char link_prefix[12];  /* "viv<tag>-" */
	char netns_prefix[12]; /* "viv-<tag>-" */
	uint32_t block;
	int block_fd;     /* owned: the socket whose name holds the block */
	atomic_uint next; /* the number tried next; going round puts off the reuse of an address */
	atomic_uint_fast64_t busy[NET_SLOTS_MAX / 64]; /* numbers being made or removed right now */
	atomic_uint resolver; /* the last one that the host's table was told of; 0 = none */
};

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

/** net_resolver() - the host's first IPv4 resolver that is no loopback address; 0 = none */
uint32_t net_resolver(void);

/** net_host_setup() - make or replace the host's table. Return: 0; -errno with op->err set */
must_check int net_host_setup(struct net *net, struct op *op);

/** net_host_remove() - remove the host's table. Return: 0 (also when absent); -errno, op->err set
 */
must_check int net_host_remove(struct net *net, struct op *op);

/** net_host_forward() - see to it that the host forwards, if it has somewhere to forward to.
 * Return: 0; -errno with op->err set */
must_check int net_host_forward(int nl, struct op *op);

/** net_host_resolver() - let guests reach a resolver, if the host's table does not know it yet.
 * Return: 0; -errno with op->err set */
must_check int net_host_resolver(struct net *net, uint32_t resolver, struct op *op);

/** net_policy() - write the rules inside a slot's namespace. Return: 0; -errno */
must_check int net_policy(uint32_t resolver, struct buf *out);
