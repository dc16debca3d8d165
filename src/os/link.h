/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink by libmnl: what network slots need of it. All functions take a socket of netns_rtnl(),
 * block for the kernel's answer only, and return 0 or the kernel's -errno. IPv4 addresses are in
 * host byte order.
 */
#pragma once

#include "base/macros.h"

/** link_add_veth() - a veth pair: @name here, @peer in the namespace @peer_netns_fd */
must_check int link_add_veth(int nl, const char *name, const char *peer, int peer_netns_fd);

/** link_delete() - delete a link. -ENODEV when absent */
must_check int link_delete(int nl, const char *name);

/** link_set_up() - bring a link up */
must_check int link_set_up(int nl, const char *name);

/**
 * link_sync() - have the kernel act on a link's carrier now
 *
 * A veth's end that was up before its peer sends nothing until the kernel's link watch comes round,
 * which may take a second. Older kernels than 6.8 come round no sooner for being asked.
 */
must_check int link_sync(int nl, const char *name);

/** link_set_alias() - set ifalias, at most 255 bytes; "" clears it */
must_check int link_set_alias(int nl, const char *name, const char *alias);

/** link_add_addr() - give a link an IPv4 address */
must_check int link_add_addr(int nl, const char *name, uint32_t addr, unsigned prefix_len);

/** link_add_neigh() - a permanent neighbour entry, so that no ARP round trip is needed */
must_check int link_add_neigh(int nl, const char *name, uint32_t addr, const unsigned char mac[6]);

/** link_add_default_route() - a default route by a gateway */
must_check int link_add_default_route(int nl, uint32_t gateway);

struct link_info {
	int index;
	char name[16];
	char alias[256]; /* "" = none */
	bool up;
};

/** link_list() - call @fn for each link; ends at the first that returns < 0, which is returned */
must_check int link_list(int nl, int (*fn)(const struct link_info *link, void *arg), void *arg);

struct link_addr {
	int index; /* of its link */
	uint32_t addr;
	unsigned prefix_len;
};

/** link_list_addrs() - call @fn for each IPv4 address; as link_list() */
must_check int link_list_addrs(int nl, int (*fn)(const struct link_addr *addr, void *arg),
			       void *arg);

struct link_route {
	int index; /* of the link it leads to; 0 = none or several */
	uint32_t dst;
	unsigned prefix_len; /* 0 = a default route */
	bool usable;         /* packets pass: no blackhole, prohibit or unreachable */
};

/** link_list_routes() - call @fn for each IPv4 route, not the local table; as link_list() */
must_check int link_list_routes(int nl, int (*fn)(const struct link_route *route, void *arg),
				void *arg);

/** link_has_default_route() - whether IPv4 traffic can leave the host. Return: 1; 0; -errno */
must_check int link_has_default_route(int nl);
