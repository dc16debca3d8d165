/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a guest can reach and who can reach it, with real namespaces and rules. The process is the
 * host (net_world.h); "world" is a namespace behind its uplink 203.0.113.254 that also has
 * addresses of private ranges; a guest is a namespace whose tap exchanges frames with the slot's
 * tap by a thread, in place of a VMM.
 */
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
static struct world make_world(void)
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

static void copy_frame(int from, int to)
{
	char frame[4096];
	ssize_t n = read(from, frame, sizeof(frame));

	if (n > 0)
		ignore_err((int)write(to, frame, (size_t)n)); /* as a wire: what is lost is lost */
}

static void *guest_main(void *arg)
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
static void guest_start(struct guest *g, struct net_slot *slot, const char *name)
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

static void guest_stop(struct guest *g)
{
	ck_assert_int_eq(eventfd_write(g->stop_fd, 1), 0);
	pthread_join(g->thread, NULL);
	fd_close(&g->stop_fd);
	fd_close(&g->tap_fd);
	fd_close(&g->netns_fd);
}

/* All of them at once, so that the time of silence is spent only once. */
static void assert_unreachable(int netns_fd, const struct sockaddr_in *peers, size_t n)
{
	int fds[16];

	ck_assert_uint_le(n, ARRAY_SIZE(fds));
	for (size_t i = 0; i < n; i++)
		fds[i] = world_dial(netns_fd, SOCK_STREAM, ntohl(peers[i].sin_addr.s_addr),
				    ntohs(peers[i].sin_port));
	for (size_t i = 0; i < n; i++) {
		ck_assert_msg(!world_reached(fds[i], i == 0 ? REFUSED_MS : 0),
			      "reached %s port %d from the guest", inet_ntoa(peers[i].sin_addr),
			      ntohs(peers[i].sin_port));
		fd_close(&fds[i]);
	}
}

static struct sockaddr_in peer(uint32_t addr, int port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_port = htons((uint16_t)port),
				     .sin_addr.s_addr = htonl(addr) };
}

/* Whoever connects from the host, the guest sees the gateway. */
static void assert_peer_is_gateway(int listener)
{
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	auto_close int fd = accept4(listener, (struct sockaddr *)&from, &len, SOCK_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_uint_eq(ntohl(from.sin_addr.s_addr), NET_GATEWAY_ADDR);
}

START_TEST(test_guest_reach)
{
	struct sandbox_id id[2] = { id_new(), id_new() };
	auto_close int on_host = -1, in_guest = -1, in_other = -1, up = -1;
	struct net_slot slot[2];
	struct guest guest[2];
	struct world world;
	struct net *net;
	auto_buf forward = BUF_INIT(16);

	world_enter();
	world = make_world();
	net = open_net("aaaa", 0);
	ck_ok(file_read_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", &forward));
	ck_assert_str_eq(buf_str(&forward), "1\n");
	for (int i = 0; i < 2; i++) {
		slot[i] = acquire(net, &id[i]);
		guest_start(&guest[i], &slot[i], i == 0 ? "guest0" : "guest1");
	}
	on_host = world_listen(-1, SOCK_STREAM, 0, PORT);
	in_guest = world_listen(guest[0].netns_fd, SOCK_STREAM, 0, PORT);
	in_other = world_listen(guest[1].netns_fd, SOCK_STREAM, 0, PORT);

	/* what must work, also as proof that the refusals below are refusals */
	ck_assert(world_tcp(guest[0].netns_fd, world_addr, PORT));
	ck_assert(world_tcp(guest[1].netns_fd, world_addr, PORT));
	ck_assert(world_tcp(-1, addr_of(&slot[0]), PORT));
	ck_assert(world_tcp(-1, addr_of(&slot[1]), PORT));
	ck_assert(world_tcp(world.netns_fd, uplink_addr, PORT));
	assert_peer_is_gateway(in_guest);
	for (size_t i = 0; i < ARRAY_SIZE(private_addrs); i++)
		ck_assert(world_tcp(-1, private_addrs[i], PORT));

	assert_unreachable(guest[0].netns_fd,
			   (const struct sockaddr_in[]){
				   peer(net_block(net), PORT), /* the host's end of its own pair */
				   peer(net_block(net) + 2, PORT), /* of the other's */
				   peer(uplink_addr, PORT), /* an address of the host elsewhere */
				   peer(NET_GATEWAY_ADDR, PORT),
				   peer(addr_of(&slot[0]), PORT),
				   peer(addr_of(&slot[1]), PORT),
				   peer(private_addrs[0], PORT),
				   peer(private_addrs[1], PORT),
				   peer(private_addrs[2], PORT),
			   },
			   9);
	/* nobody comes in by routing through the host */
	up = netns_rtnl(world.netns_fd);
	ck_ok(link_add_default_route(up, uplink_addr));
	assert_unreachable(world.netns_fd,
			   (const struct sockaddr_in[]){ peer(addr_of(&slot[0]), PORT) }, 1);

	for (int i = 0; i < 2; i++) {
		guest_stop(&guest[i]);
		net_slot_done(&slot[i]);
		release(net, &id[i]);
	}
	net_close(net);
}
END_TEST

/* The namespace's rules alone, and then the host's alone, must keep a guest in. */
START_TEST(test_two_walls)
{
	struct sandbox_id id = id_new();
	auto_close int on_host = -1;
	struct net_slot slot;
	struct guest guest;
	struct world world;
	struct net *net;
	struct sockaddr_in peers[4];
	size_t n = 0;

	world_enter();
	world = make_world();
	net = open_net("aaaa", 0);
	slot = acquire(net, &id);
	guest_start(&guest, &slot, "guest0");
	on_host = world_listen(-1, SOCK_STREAM, 0, PORT);
	for (size_t i = 0; i < ARRAY_SIZE(private_addrs); i++)
		peers[n++] = peer(private_addrs[i], PORT);
	peers[n++] = peer(net_block(net), PORT);
	fd_close(&(int){ world_listen(world.netns_fd, SOCK_STREAM, 0, OTHER_PORT) });

	free(world_run((const char *const[]){ "nft", "flush", "chain", "inet", "vivarium_aaaa",
					      "from_guest", NULL }));
	free(world_run((const char *const[]){ "nft", "flush", "chain", "inet", "vivarium_aaaa",
					      "to_host", NULL }));
	assert_unreachable(guest.netns_fd, peers, n);

	net_close(net);
	net = open_net("aaaa", 0); /* makes the table anew */
	free(world_run((const char *const[]){ "ip", "netns", "exec", "viv-aaaa-0", "nft", "flush",
					      "chain", "ip", "vivarium", "forward", NULL }));
	free(world_run((const char *const[]){ "ip", "netns", "exec", "viv-aaaa-0", "nft", "chain",
					      "ip", "vivarium", "forward", "{ policy accept; }",
					      NULL }));
	ck_assert(world_tcp(guest.netns_fd, world_addr, PORT));
	assert_unreachable(guest.netns_fd, peers, n);

	guest_stop(&guest);
	net_slot_done(&slot);
	net_close(net);
}
END_TEST

static bool dns_answers(int guest_netns_fd, int resolver, uint32_t addr, int timeout_ms)
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

START_TEST(test_dns)
{
	struct sandbox_id id = id_new();
	auto_close int udp = -1, tcp = -1, moved = -1;
	struct net_slot slot;
	struct guest guest;
	struct world world;
	struct net *net;

	world_enter();
	world = make_world();
	world_resolver("# a comment\nnameserver ::1\nnameserver 127.0.0.53\n"
		       "nameserver 10.99.0.53\nnameserver 203.0.113.9\n");
	udp = world_listen(world.netns_fd, SOCK_DGRAM, resolver_addr, 53);
	tcp = world_listen(world.netns_fd, SOCK_STREAM, 0, 53);
	net = open_net("aaaa", 0);
	slot = acquire(net, &id);
	guest_start(&guest, &slot, "guest0");
	ck_assert(dns_answers(guest.netns_fd, udp, NET_GATEWAY_ADDR, 3000));
	ck_assert(world_tcp(guest.netns_fd, NET_GATEWAY_ADDR, 53));
	/* that one hole only: not the resolver itself, not its other ports */
	ck_assert(!dns_answers(guest.netns_fd, udp, resolver_addr, REFUSED_MS));
	assert_unreachable(
		guest.netns_fd,
		(const struct sockaddr_in[]){ peer(resolver_addr, 53), peer(resolver_addr, PORT) },
		2);
	guest_stop(&guest);
	net_slot_done(&slot);
	release(net, &id);

	/* the host moved to another network: the next slot asks the new resolver, here on the host
	 */
	world_resolver("nameserver 203.0.113.254\n");
	moved = world_listen(-1, SOCK_DGRAM, uplink_addr, 53);
	slot = acquire(net, &id);
	guest_start(&guest, &slot, "guest1");
	ck_assert(dns_answers(guest.netns_fd, moved, NET_GATEWAY_ADDR, 3000));
	guest_stop(&guest);
	net_slot_done(&slot);
	net_close(net);
}
END_TEST

START_TEST(test_stub_resolver)
{
	auto_free char *rules = NULL;
	struct net *net;

	world_enter();
	world_resolver("nameserver 127.0.0.53\n");
	ck_ok(file_mkdirs("/run/systemd/resolve"));
	world_write("/run/systemd/resolve/resolv.conf", "nameserver 10.99.0.54");
	net = open_net("aaaa", 0);
	rules = world_run((const char *const[]){ "nft", "list", "ruleset", NULL });
	ck_assert_ptr_nonnull(strstr(rules, "elements = { 10.99.0.54 }"));
	net_close(net);
}
END_TEST

START_TEST(test_spoofed_source)
{
	struct sandbox_id id = id_new();
	auto_close int nl = -1, fd = -1, udp = -1;
	struct sockaddr_in from = peer(IP(203, 0, 113, 77), 0), to = peer(world_addr, OTHER_PORT);
	struct net_slot slot;
	struct guest guest;
	struct world world;
	struct net *net;

	world_enter();
	world = make_world();
	net = open_net("aaaa", 0);
	slot = acquire(net, &id);
	guest_start(&guest, &slot, "guest0");
	udp = world_listen(world.netns_fd, SOCK_DGRAM, 0, OTHER_PORT);
	nl = netns_rtnl(guest.netns_fd);
	ck_ok(link_add_addr(nl, "eth0", IP(203, 0, 113, 77), 32));
	fd = world_dial(guest.netns_fd, SOCK_DGRAM, world_addr, OTHER_PORT);
	ck_assert_int_eq(send(fd, "true", 4, 0), 4);
	ck_assert(world_readable(udp, 3000));
	ck_assert_int_eq(recv(udp, &(char[8]){ 0 }, 8, 0), 4);
	fd_close(&fd);
	fd = world_dial(guest.netns_fd, SOCK_DGRAM, world_addr, OTHER_PORT);
	ck_assert_int_eq(
		connect(fd, &(struct sockaddr){ .sa_family = AF_UNSPEC }, sizeof(struct sockaddr)),
		0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&from, sizeof(from)), 0);
	ck_assert_int_eq(sendto(fd, "false", 5, 0, (struct sockaddr *)&to, sizeof(to)), 5);
	ck_assert(!world_readable(udp, REFUSED_MS));
	guest_stop(&guest);
	net_slot_done(&slot);
	net_close(net);
}
END_TEST

START_TEST(test_no_uplink)
{
	struct sandbox_id id = id_new();
	auto_close int in_guest = -1;
	auto_buf forward = BUF_INIT(16);
	struct net_slot slot;
	struct guest guest;
	struct world world;
	struct net *net;

	world_enter();
	world_resolver("");
	net = open_net("aaaa", 0);
	slot = acquire(net, &id);
	guest_start(&guest, &slot, "guest0");
	in_guest = world_listen(guest.netns_fd, SOCK_STREAM, 0, PORT);
	ck_assert(world_tcp(-1, addr_of(&slot), PORT));
	ck_ok(file_read_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", &forward));
	ck_assert_str_eq(buf_str(&forward), "0\n");
	/* an uplink that comes later is found by the next slot, and serves all */
	world = make_world();
	net_slot_done(&(struct net_slot){
		.netns_fd = acquire(net, &(struct sandbox_id){ "i1234567890123456789" }).netns_fd,
		.tap_fd = -1 });
	ck_assert(world_tcp(guest.netns_fd, world_addr, PORT));
	fd_close(&world.tcp);
	guest_stop(&guest);
	net_slot_done(&slot);
	net_close(net);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("net_guest");
	TCase *tc = tcase_create("net_guest");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, test_guest_reach);
	tcase_add_test(tc, test_two_walls);
	tcase_add_test(tc, test_dns);
	tcase_add_test(tc, test_stub_resolver);
	tcase_add_test(tc, test_spoofed_source);
	tcase_add_test(tc, test_no_uplink);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
