/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest and the world around the host, with real namespaces and rules: "world" is a namespace
 * behind the host's uplink 203.0.113.254 that also has addresses of private ranges; a guest is a
 * namespace whose tap exchanges frames with the slot's tap by a thread, in place of a VMM.
 */
#pragma once

#include "net_world.h"

#include <sys/eventfd.h>

enum { PORT = 7777, OTHER_PORT = 7778, REFUSED_MS = 300 };

static const uint32_t world_addr = IP(203, 0, 113, 1);
static const uint32_t uplink_addr = IP(203, 0, 113, 254);
static const uint32_t private_addrs[] = { IP(10, 99, 0, 1), IP(192, 168, 77, 1),
					  IP(169, 254, 169, 254) };
static const uint32_t resolver_addr = IP(10, 99, 0, 53);

struct world {
	int netns_fd;
	int tcp;
};

/* The uplink, the default route, and who is out there. */
static inline struct world make_world(void)
{
	struct world world = { .netns_fd = world_netns("world") };
	auto_close int nl = netns_rtnl(-1), outer = netns_rtnl(world.netns_fd);

	ck_ok(link_add_veth(nl, "uplink", "w0", world.netns_fd));
	ck_ok(link_add_addr(nl, "uplink", uplink_addr, 24));
	ck_ok(link_set_up(nl, "uplink"));
	ck_ok(link_add_addr(outer, "w0", world_addr, 24));
	ck_ok(link_add_addr(outer, "lo", resolver_addr, 32));
	for (size_t i = 0; i < ARRAY_SIZE(private_addrs); i++)
		ck_ok(link_add_addr(outer, "lo", private_addrs[i], 32));
	ck_ok(link_set_up(outer, "w0"));
	ck_ok(link_add_default_route(nl, world_addr));
	world.tcp = world_listen(world.netns_fd, SOCK_STREAM, 0, PORT);
	return world;
}

struct guest {
	int netns_fd;
	int tap_fd;
	int slot_tap_fd;
	int stop_fd;
	pthread_t thread;
};

static inline void copy_frame(int from, int to)
{
	char frame[4096];
	ssize_t n = read(from, frame, sizeof(frame));

	if (n > 0)
		ignore_err((int)write(to, frame, (size_t)n)); /* as a wire: what is lost is lost */
}

static inline void *guest_main(void *arg)
{
	const struct guest *g = arg;
	struct pollfd p[] = { { .fd = g->tap_fd, .events = POLLIN },
			      { .fd = g->slot_tap_fd, .events = POLLIN },
			      { .fd = g->stop_fd, .events = POLLIN } };

	while (poll(p, ARRAY_SIZE(p), -1) > 0 && p[2].revents == 0) {
		if (p[0].revents != 0)
			copy_frame(g->tap_fd, g->slot_tap_fd);
		if (p[1].revents != 0)
			copy_frame(g->slot_tap_fd, g->tap_fd);
	}
	return NULL;
}

/* Start a guest at the slot's tap, as its init would set up eth0. */
static inline void guest_start(struct guest *g, struct net_slot *slot, const char *name)
{
	static const unsigned char mac[6] = { 0x02, 0x76, 0x69, 0x76, 0x00, 0x01 };
	static const unsigned char gateway[6] = { 0x02, 0x76, 0x69, 0x76, 0x00, 0x02 };
	auto_close int nl = -1;
	struct op op = test_op();

	ck_op(net_slot_tap(slot, &op), &op);
	ck_assert_int_ge(slot->tap_fd, 0);
	g->netns_fd = world_netns(name);
	nl = netns_rtnl(g->netns_fd);
	g->tap_fd = netns_tap(g->netns_fd, "eth0", mac);
	ck_ok(g->tap_fd);
	ck_ok(link_add_addr(nl, "eth0", NET_GUEST_ADDR, NET_PREFIX_LEN));
	ck_ok(link_set_up(nl, "eth0"));
	ck_ok(link_add_neigh(nl, "eth0", NET_GATEWAY_ADDR, gateway));
	ck_ok(link_add_default_route(nl, NET_GATEWAY_ADDR));
	g->slot_tap_fd = slot->tap_fd;
	g->stop_fd = eventfd(0, EFD_CLOEXEC);
	ck_assert_int_eq(pthread_create(&g->thread, NULL, guest_main, g), 0);
}

static inline void guest_stop(struct guest *g)
{
	ck_assert_int_eq(eventfd_write(g->stop_fd, 1), 0);
	pthread_join(g->thread, NULL);
	fd_close(&g->stop_fd);
	fd_close(&g->tap_fd);
	fd_close(&g->netns_fd);
}

static inline struct sockaddr_in peer(uint32_t addr, int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = htonl(addr) };
}

/* Whether a query gets to a resolver and its answer back. */
static inline bool dns_answers(int guest_netns_fd, int resolver, uint32_t addr, int timeout_ms)
{
	auto_close int fd = world_dial(guest_netns_fd, SOCK_DGRAM, addr, 53);
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	char text[16] = "";

	ck_assert_int_eq(send(fd, "query", 5, 0), 5);
	if (!world_readable(resolver, timeout_ms))
		return false;
	ck_assert_int_eq(recvfrom(resolver, text, sizeof(text), 0, (struct sockaddr *)&from, &len),
			 5);
	ck_assert_int_eq(sendto(resolver, "answer", 6, 0, (struct sockaddr *)&from, len), 6);
	ck_assert(world_readable(fd, 3000));
	return recv(fd, text, sizeof(text), 0) == 6 && memcmp(text, "answer", 6) == 0;
}
