/* SPDX-License-Identifier: Apache-2.0 */
/* What a guest can reach and who can reach it, with real namespaces and rules (net_guest.h). */
#include "net_guest.h"

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
					      "chain", "inet", "vivarium", "forward", NULL }));
	free(world_run((const char *const[]){ "ip", "netns", "exec", "viv-aaaa-0", "nft", "chain",
					      "inet", "vivarium", "forward", "{ policy accept; }",
					      NULL }));
	ck_assert(world_tcp(guest.netns_fd, world_addr, PORT));
	assert_unreachable(guest.netns_fd, peers, n);

	guest_stop(&guest);
	net_slot_done(&slot);
	net_close(net);
}
END_TEST

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
