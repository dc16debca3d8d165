/* SPDX-License-Identifier: Apache-2.0 */
/* Where a guest may go: lists of networks, and the rules that are made of them (net_guest.h). */
#include "net_guest.h"

#include "os/nft.h"

#include <linux/netfilter.h>
#include <stdatomic.h>

enum { SWAPS = 40 };

/* A second address of the world. */
static const uint32_t other_addr = IP(203, 0, 113, 9);

static struct net_egress egress_of(const char *allow, const char *deny)
{
	struct net_egress egress = { 0 };

	ck_ok(net_egress_read(&egress.allow, allow));
	ck_ok(net_egress_read(&egress.deny, deny));
	return egress;
}

static void set_egress(const struct net_slot *slot, const char *allow, const char *deny)
{
	cleanup(net_egress_done) struct net_egress egress = egress_of(allow, deny);
	struct op op = test_op();

	ck_op(net_slot_egress(slot, &egress, &op), &op);
}

START_TEST(test_parse)
{
	static const char *const bad[] = {
		"300.1.2.3", "1.2.3", "1.2.3.4/33", "1.2.3.4/", "/8", "1.2.3.4/-1", "1.2.3.4/8/8",
		"::1",       "a.b",   " 1.2.3.4",   "1.2.3.4 ", "",   "01.2.3.4",   "1.2.3.4/ 8",
	};
	struct ipv4_net net;

	ck_ok(ipv4_net_parse("192.0.2.1", &net));
	ck_assert_uint_eq(net.addr, IP(192, 0, 2, 1));
	ck_assert_uint_eq(net.prefix_len, 32);
	ck_ok(ipv4_net_parse("0.0.0.0/0", &net));
	ck_assert_uint_eq(net.addr, 0);
	ck_assert_uint_eq(net.prefix_len, 0);
	ck_ok(ipv4_net_parse("198.51.100.7/24", &net));
	ck_assert_uint_eq(net.addr, IP(198, 51, 100, 7));
	ck_assert_uint_eq(net.prefix_len, 24);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(ipv4_net_parse(bad[i], &net) == -EINVAL, "'%s' was read", bad[i]);
}
END_TEST

START_TEST(test_within)
{
	static const struct {
		const char *inner, *outer;
		bool within;
	} cases[] = {
		{ "192.0.2.1", "192.0.2.1", true },       { "192.0.2.1", "192.0.2.0/24", true },
		{ "192.0.2.0/24", "192.0.2.1", false },   { "192.0.3.0/25", "192.0.2.0/24", false },
		{ "192.0.2.9/25", "192.0.2.8/24", true }, { "1.2.3.4", "0.0.0.0/0", true },
		{ "0.0.0.0/0", "0.0.0.0/1", false },      { "128.0.0.0/1", "0.0.0.0/1", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct ipv4_net inner, outer;

		ck_ok(ipv4_net_parse(cases[i].inner, &inner));
		ck_ok(ipv4_net_parse(cases[i].outer, &outer));
		ck_assert_msg(ipv4_net_within(&inner, &outer) == cases[i].within, "%s in %s",
			      cases[i].inner, cases[i].outer);
	}
}
END_TEST

static void assert_merged(const char *text, const char *want)
{
	struct ipv4_nets list = { 0 };
	auto_buf out = BUF_INIT(4096);

	ck_ok(net_egress_read(&list, text));
	net_egress_merge(&list);
	vec_foreach (net, &list)
		ck_ok(buf_printf(&out, "%s" IPV4_NET_FMT, out.len > 0 ? " " : "",
				 IPV4_NET_ARG(*net)));
	ck_assert_str_eq(buf_str(&out), want);
	ipv4_nets_done(&list);
}

START_TEST(test_merge)
{
	assert_merged("", "");
	assert_merged("192.0.2.9/24", "192.0.2.0/24");
	assert_merged("192.0.2.1 192.0.2.1", "192.0.2.1/32");
	assert_merged("203.0.113.0/24 192.0.2.77 192.0.2.0/24 192.0.2.1/25 8.8.8.8",
		      "8.8.8.8/32 192.0.2.0/24 203.0.113.0/24");
	assert_merged("192.0.2.128/25 192.0.2.0/25", "192.0.2.0/25 192.0.2.128/25");
	assert_merged("255.255.255.255 1.1.1.1 0.0.0.0/0 128.0.0.0/1", "0.0.0.0/0");
}
END_TEST

START_TEST(test_read_bounds)
{
	struct ipv4_nets list = { 0 };
	auto_buf text = BUF_INIT(1 << 20);

	ck_assert_int_eq(net_egress_read(&list, "192.0.2.1  192.0.2.2"), -EINVAL);
	ipv4_nets_done(&list);
	for (int i = 0; i < NET_EGRESS_MAX; i++)
		ck_ok(buf_printf(&text, "%s8.8.%d.%d", i > 0 ? " " : "", i / 256, i % 256));
	ck_ok(net_egress_read(&list, buf_str(&text)));
	ck_assert_uint_eq(list.n, NET_EGRESS_MAX);
	ck_assert_int_eq(net_egress_read(&list, "9.9.9.9"), -E2BIG);
	ipv4_nets_done(&list);
}
END_TEST

START_TEST(test_never_reached)
{
	static const char *const never[] = { "10.0.0.1",        "10.0.0.0/8", "172.31.255.0/24",
					     "169.254.169.254", "127.0.0.1",  "192.168.0.0/16",
					     "100.64.0.1",      "0.0.0.0",    "239.1.2.3",
					     "255.255.255.255" };
	static const char *const some[] = { "0.0.0.0/0", "8.0.0.0/6", "172.32.0.1", "192.0.2.1",
					    "100.128.0.0/9" };
	struct ipv4_net net;

	for (size_t i = 0; i < ARRAY_SIZE(never); i++) {
		ck_ok(ipv4_net_parse(never[i], &net));
		ck_assert_msg(net_never_reached(&net) != NULL, "%s", never[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(some); i++) {
		ck_ok(ipv4_net_parse(some[i], &net));
		ck_assert_msg(net_never_reached(&net) == NULL, "%s", some[i]);
	}
}
END_TEST

/* A slot with a guest, in a world of two addresses. */
struct place {
	struct world world;
	struct net *net;
	struct sandbox_id id;
	struct net_slot slot;
	struct guest guest;
};

static void place_open(struct place *p)
{
	auto_close int outer = -1;

	world_enter();
	p->world = make_world();
	outer = netns_rtnl(p->world.netns_fd);
	ck_ok(link_add_addr(outer, "w0", other_addr, 32));
	p->net = open_net("aaaa", 0);
	p->id = id_new();
	p->slot = acquire(p->net, &p->id);
	guest_start(&p->guest, &p->slot, "guest0");
}

static void place_close(struct place *p)
{
	guest_stop(&p->guest);
	net_slot_done(&p->slot);
	release(p->net, &p->id);
	net_close(p->net);
	fd_close(&p->world.tcp);
	fd_close(&p->world.netns_fd);
}

static bool reaches(const struct place *p, uint32_t addr)
{
	return world_tcp(p->guest.netns_fd, addr, PORT);
}

/* Refused, and told so: the guest does not wait for a timeout. */
static void assert_refused(const struct place *p, uint32_t addr)
{
	auto_close int fd = world_dial(p->guest.netns_fd, SOCK_STREAM, addr, PORT);
	struct pollfd poll_fd = { .fd = fd, .events = POLLOUT };
	int why = 0;
	socklen_t len = sizeof(why);

	ck_assert_int_eq(poll(&poll_fd, 1, 3000), 1);
	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &len), 0);
	ck_assert_int_eq(why, ECONNREFUSED);
}

START_TEST(test_lists)
{
	struct place p;

	place_open(&p);
	ck_assert(reaches(&p, world_addr) && reaches(&p, other_addr));
	set_egress(&p.slot, "", "203.0.113.1");
	assert_refused(&p, world_addr);
	ck_assert(reaches(&p, other_addr));
	set_egress(&p.slot, "", "0.0.0.0/0");
	assert_refused(&p, world_addr);
	assert_refused(&p, other_addr);
	set_egress(&p.slot, "203.0.113.9/32 8.8.8.8", "0.0.0.0/0"); /* allow wins */
	assert_refused(&p, world_addr);
	ck_assert(reaches(&p, other_addr));
	set_egress(&p.slot, "203.0.113.0/24", "203.0.113.0/24 203.0.113.1");
	ck_assert(reaches(&p, world_addr));
	/* what no guest reaches stays out of reach, whatever is allowed */
	set_egress(&p.slot, "0.0.0.0/0 10.99.0.1", "");
	ck_assert(reaches(&p, world_addr));
	for (size_t i = 0; i < ARRAY_SIZE(private_addrs); i++) {
		auto_close int fd =
			world_dial(p.guest.netns_fd, SOCK_STREAM, private_addrs[i], PORT);

		ck_assert(!world_reached(fd, REFUSED_MS));
	}
	set_egress(&p.slot, "", "");
	ck_assert(reaches(&p, world_addr) && reaches(&p, other_addr));
	place_close(&p);
}
END_TEST

/* Whatever is denied: names can be asked for, and the host comes in. */
START_TEST(test_deny_all_leaves_dns_and_host)
{
	auto_close int udp = -1, in_guest = -1;
	struct place p;

	world_enter();
	world_resolver("nameserver 10.99.0.53\n");
	p.world = make_world();
	p.net = open_net("aaaa", 0);
	p.id = id_new();
	p.slot = acquire(p.net, &p.id);
	set_egress(&p.slot, "", "0.0.0.0/0"); /* before there is a guest */
	guest_start(&p.guest, &p.slot, "guest0");
	udp = world_listen(p.world.netns_fd, SOCK_DGRAM, resolver_addr, 53);
	in_guest = world_listen(p.guest.netns_fd, SOCK_STREAM, 0, PORT);
	ck_assert(dns_answers(p.guest.netns_fd, udp, NET_GATEWAY_ADDR, 3000));
	ck_assert(world_tcp(-1, addr_of(&p.slot), PORT));
	assert_refused(&p, world_addr);
	place_close(&p);
}
END_TEST

/* A connection to the world, from the guest's side and the world's. */
static void connect_pair(const struct place *p, uint32_t addr, int *out_guest, int *out_world)
{
	*out_guest = world_dial(p->guest.netns_fd, SOCK_STREAM, addr, PORT);
	ck_assert(world_reached(*out_guest, 3000));
	*out_world = accept4(p->world.tcp, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(*out_world, 0);
}

static void assert_passes(int from, int to)
{
	char byte = 0;

	ck_assert_int_eq(send(from, "x", 1, MSG_NOSIGNAL), 1);
	ck_assert(world_readable(to, 5000));
	ck_assert_int_eq(recv(to, &byte, 1, 0), 1);
}

START_TEST(test_connections_are_cut)
{
	auto_close int guest = -1, world = -1, kept_guest = -1, kept_world = -1;
	struct place p;
	char byte;

	place_open(&p);
	connect_pair(&p, world_addr, &guest, &world);
	connect_pair(&p, other_addr, &kept_guest, &kept_world);
	assert_passes(guest, world);
	assert_passes(world, guest);
	set_egress(&p.slot, "", "203.0.113.1");
	/* nothing gets in, nothing out, and who sends is told */
	ck_assert_int_eq(send(world, "x", 1, MSG_NOSIGNAL), 1);
	ck_assert(!world_readable(guest, REFUSED_MS));
	ck_assert_int_eq(send(guest, "x", 1, MSG_NOSIGNAL), 1);
	ck_assert(world_readable(guest, 5000));
	ck_assert_int_eq(recv(guest, &byte, 1, 0), -1);
	ck_assert_int_eq(errno, ECONNRESET);
	ck_assert(!world_readable(world, 0));
	assert_passes(kept_guest, kept_world);
	assert_passes(kept_world, kept_guest);
	place_close(&p);
}
END_TEST

/* Also what has no connection, and is tracked only as if it had. */
START_TEST(test_datagrams_are_cut)
{
	auto_close int guest = -1, world = -1;
	struct sockaddr_in from;
	socklen_t len = sizeof(from);
	struct place p;
	char byte;

	place_open(&p);
	world = world_listen(p.world.netns_fd, SOCK_DGRAM, 0, OTHER_PORT);
	guest = world_dial(p.guest.netns_fd, SOCK_DGRAM, world_addr, OTHER_PORT);
	ck_assert_int_eq(send(guest, "x", 1, 0), 1);
	ck_assert(world_readable(world, 3000));
	ck_assert_int_eq(recvfrom(world, &byte, 1, 0, (struct sockaddr *)&from, &len), 1);
	ck_assert_int_eq(connect(world, (struct sockaddr *)&from, len), 0);
	assert_passes(world, guest);
	set_egress(&p.slot, "", "0.0.0.0/0");
	ck_assert_int_eq(send(world, "x", 1, 0), 1);
	ck_assert(!world_readable(guest, REFUSED_MS));
	ck_assert_int_eq(send(guest, "x", 1, 0), 1);
	ck_assert(!world_readable(world, REFUSED_MS));
	/* the guest was told by ICMP */
	ck_assert_int_eq(recv(guest, &byte, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EHOSTUNREACH);
	set_egress(&p.slot, "", "");
	assert_passes(world, guest);
	place_close(&p);
}
END_TEST

struct swapper {
	const struct net_slot *slot;
	atomic_bool done;
	pthread_t thread;
};

/* Two policies of which each denies other_addr and lets world_addr pass, by another way. */
static void *swapper_main(void *arg)
{
	struct swapper *s = arg;

	for (int i = 0; i < SWAPS; i++)
		set_egress(s->slot, i % 2 == 0 ? "203.0.113.1" : "",
			   i % 2 == 0 ? "0.0.0.0/0" : "203.0.113.9");
	atomic_store(&s->done, true);
	return NULL;
}

/* While policies are swapped: what both allow always passes, what both deny never does. */
START_TEST(test_swaps_have_no_seam)
{
	auto_close int guest = -1, world = -1, denied = -1, probe = -1;
	struct swapper s = { 0 };
	struct place p;
	unsigned passed = 0;

	place_open(&p);
	set_egress(&p.slot, "", "203.0.113.9");
	connect_pair(&p, world_addr, &guest, &world);
	denied = world_listen(p.world.netns_fd, SOCK_DGRAM, other_addr, OTHER_PORT);
	probe = world_dial(p.guest.netns_fd, SOCK_DGRAM, other_addr, OTHER_PORT);
	s.slot = &p.slot;
	ck_assert_int_eq(pthread_create(&s.thread, NULL, swapper_main, &s), 0);
	while (!atomic_load(&s.done)) {
		for (int i = 0; i < 16; i++) /* fails with what ICMP told of the one before */
			ignore_err((int)send(probe, "x", 1, MSG_NOSIGNAL));
		assert_passes(guest, world);
		assert_passes(world, guest);
		passed++;
	}
	pthread_join(s.thread, NULL);
	ck_assert_uint_gt(passed, SWAPS);
	ck_assert(!world_readable(denied, REFUSED_MS));
	place_close(&p);
}
END_TEST

static char *rules_of(const struct net_slot *slot)
{
	return world_run((const char *const[]){ "ip", "netns", "exec", slot->netns, "nft", "list",
						"ruleset", NULL });
}

static void renew(struct place *p, const char *allow, const char *deny)
{
	cleanup(net_egress_done) struct net_egress egress = egress_of(allow, deny);
	struct op op = test_op();

	ck_op(net_slot_renew(p->net, &p->slot, &egress, &op), &op);
}

static void nft(const struct net_slot *slot, const char *const words[6])
{
	free(world_run((const char *const[]){ "ip", "netns", "exec", slot->netns, "nft", words[0],
					      words[1], words[2], words[3], words[4], words[5],
					      NULL }));
}

/* Whatever a slot has, it gets what it should have; a connection that may go on does. */
START_TEST(test_renew)
{
	static const char deny[] = "203.0.113.9 192.0.2.0/24";
	auto_close int guest = -1, world = -1;
	auto_free char *want = NULL, *same = NULL, *open = NULL, *changed = NULL, *whole = NULL;
	struct place p;

	place_open(&p);
	open = rules_of(&p.slot);
	connect_pair(&p, world_addr, &guest, &world);
	set_egress(&p.slot, "", deny);
	want = rules_of(&p.slot);
	renew(&p, "", deny);
	same = rules_of(&p.slot);
	assert_same(want, same);
	renew(&p, "", ""); /* the egress is another */
	changed = rules_of(&p.slot);
	assert_same(open, changed);
	ck_assert(reaches(&p, other_addr));
	/* the table is another: without a mark, or of another daemon */
	nft(&p.slot,
	    (const char *const[]){ "flush", "chain", "inet", "vivarium", "forward", NULL });
	ck_assert(!world_readable(guest, 0));
	renew(&p, "", deny);
	whole = rules_of(&p.slot);
	assert_same(want, whole);
	assert_passes(guest, world);
	assert_refused(&p, other_addr);
	nft(&p.slot, (const char *const[]){ "delete", "table", "inet", "vivarium", NULL, NULL });
	renew(&p, "", deny);
	free(take_ptr(&whole));
	whole = rules_of(&p.slot);
	assert_same(want, whole);
	assert_refused(&p, other_addr);
	place_close(&p);
}
END_TEST

/* The host got another resolver while no daemon ran: a guest that lives on asks that one. */
START_TEST(test_renew_resolver)
{
	auto_close int before = -1, after = -1;
	struct place p;

	world_enter();
	world_resolver("nameserver 10.99.0.53\n");
	p.world = make_world();
	before = world_listen(p.world.netns_fd, SOCK_DGRAM, resolver_addr, 53);
	after = world_listen(p.world.netns_fd, SOCK_DGRAM, world_addr, 53);
	p.net = open_net("aaaa", 0);
	p.id = id_new();
	p.slot = acquire(p.net, &p.id);
	guest_start(&p.guest, &p.slot, "guest0");
	ck_assert(dns_answers(p.guest.netns_fd, before, NET_GATEWAY_ADDR, 3000));
	net_close(p.net);
	world_resolver("nameserver 203.0.113.1\n");
	p.net = open_net("aaaa", 0);
	renew(&p, "", "0.0.0.0/0");
	ck_assert(dns_answers(p.guest.netns_fd, after, NET_GATEWAY_ADDR, 3000));
	assert_refused(&p, world_addr);
	place_close(&p);
}
END_TEST

START_TEST(test_longest_lists)
{
	auto_buf text = BUF_INIT(1 << 20);
	struct place p;

	for (int i = 0; i < NET_EGRESS_MAX - 1; i++)
		ck_ok(buf_printf(&text, "100.255.%d.%d/32 ", i / 256, i % 256));
	ck_ok(buf_puts(&text, "203.0.113.1"));
	place_open(&p);
	set_egress(&p.slot, buf_str(&text), "0.0.0.0/0");
	ck_assert(reaches(&p, world_addr));
	assert_refused(&p, other_addr);
	set_egress(&p.slot, "", buf_str(&text));
	assert_refused(&p, world_addr);
	ck_assert(reaches(&p, other_addr));
	place_close(&p);
}
END_TEST

START_TEST(test_slot_is_gone)
{
	cleanup(net_egress_done) struct net_egress egress = egress_of("", "0.0.0.0/0");
	auto_free char *before = NULL, *after = NULL;
	struct op op = test_op();
	struct place p;

	place_open(&p);
	before = rules_of(&p.slot);
	nft(&p.slot, (const char *const[]){ "delete", "table", "inet", "vivarium", NULL, NULL });
	ck_assert_int_lt(net_slot_egress(&p.slot, &egress, &op), 0);
	ck_assert_ptr_nonnull(strstr(op.err.msg, "set the egress of viv-aaaa-0"));
	after = rules_of(&p.slot);
	ck_assert_str_eq(after, "");
	place_close(&p);
}
END_TEST

/* A released slot leaves nothing of its egress: the next sandbox of that number begins open. */
START_TEST(test_next_slot_is_open)
{
	auto_free char *before = NULL, *after = NULL;
	struct place p;

	place_open(&p);
	before = rules_of(&p.slot);
	set_egress(&p.slot, "", "0.0.0.0/0");
	guest_stop(&p.guest);
	net_slot_done(&p.slot);
	release(p.net, &p.id);
	net_close(p.net);
	p.net = open_net("aaaa", 0); /* begins with the first number again */
	p.slot = acquire(p.net, &p.id);
	ck_assert_uint_eq(p.slot.number, 0);
	after = rules_of(&p.slot);
	assert_same(before, after);
	guest_start(&p.guest, &p.slot, "guest1");
	ck_assert(reaches(&p, world_addr));
	place_close(&p);
}
END_TEST

static void sh(const char *script)
{
	free(world_run((const char *const[]){ "sh", "-ec", script, NULL }));
}

static int listen6(void)
{
	int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&sin6, sizeof(sin6)), 0);
	return fd;
}

static int send6(void *arg)
{
	struct sockaddr_in6 to = { .sin6_family = AF_INET6, .sin6_port = htons(PORT) };
	auto_close int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || inet_pton(AF_INET6, arg, &to.sin6_addr) != 1)
		return -EINVAL;
	return sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)) < 0 ? -errno : 0;
}

/* With all that could carry it switched on by somebody, the rules alone keep IPv6 in. */
START_TEST(test_no_ipv6)
{
	auto_close int on_host = -1;
	auto_free char *addrs = NULL;
	struct place p;

	place_open(&p);
	addrs = world_run((const char *const[]){ "ip", "netns", "exec", p.slot.netns, "ip", "-6",
						 "addr", NULL });
	ck_assert_str_eq(addrs, "");
	on_host = listen6();
	sh("n='ip netns exec viv-aaaa-0' g='ip netns exec guest0'\n"
	   "for c in '' \"$n\" \"$g\"; do\n"
	   "	$c sysctl -qw net.ipv6.conf.all.disable_ipv6=0 net.ipv6.conf.all.forwarding=1\n"
	   "done\n"
	   "sysctl -qw net.ipv6.conf.vivaaaa-0.disable_ipv6=0\n"
	   "$g ip -6 addr add fd00:1::2/64 dev eth0 nodad\n"
	   "$n ip -6 addr add fd00:1::1/64 dev tap0 nodad\n"
	   "$n ip -6 addr add fd00:2::2/64 dev up0 nodad\n"
	   "ip -6 addr add fd00:2::1/64 dev vivaaaa-0 nodad\n"
	   "ip -6 route add fd00:1::/64 via fd00:2::2\n"
	   "$g ip -6 route add default via fd00:1::1\n"
	   "$g ip -6 neigh replace fd00:1::1 lladdr 02:76:69:76:00:02 dev eth0\n"
	   "$n ip -6 neigh replace fd00:1::2 lladdr 02:76:69:76:00:01 dev tap0\n");
	ck_ok(netns_call(p.guest.netns_fd, send6, (char[]){ "fd00:2::1" }));
	ck_assert(!world_readable(on_host, REFUSED_MS));
	/* without the host's wall the namespace's holds */
	sh("nft flush chain inet vivarium_aaaa to_host");
	ck_ok(netns_call(p.guest.netns_fd, send6, (char[]){ "fd00:2::1" }));
	ck_assert(!world_readable(on_host, REFUSED_MS));
	/* and without either it would have arrived */
	sh("ip netns exec viv-aaaa-0 nft delete table inet vivarium");
	ck_ok(netns_call(p.guest.netns_fd, send6, (char[]){ "fd00:2::1" }));
	ck_assert(world_readable(on_host, 5000));
	place_close(&p);
}
END_TEST

START_TEST(test_comment)
{
	char comment[8];

	world_enter();
	sh("nft -f - <<-'END'\n"
	   "	table inet t {\n"
	   "		chain c {\n"
	   "			accept\n"
	   "			drop comment \"one\"\n"
	   "			drop comment \"two\"\n"
	   "		}\n"
	   "		chain long {\n"
	   "			drop comment \"0123456789\"\n"
	   "		}\n"
	   "		chain none {\n"
	   "			drop\n"
	   "		}\n"
	   "	}\n"
	   "END\n");
	ck_ok(nft_rule_comment(NFPROTO_INET, "t", "c", comment, sizeof(comment)));
	ck_assert_str_eq(comment, "one");
	ck_ok(nft_rule_comment(NFPROTO_INET, "t", "long", comment, sizeof(comment)));
	ck_assert_str_eq(comment, "0123456");
	ck_ok(nft_rule_comment(NFPROTO_INET, "t", "none", comment, sizeof(comment)));
	ck_assert_str_eq(comment, "");
	ck_ok(nft_rule_comment(NFPROTO_INET, "t", "absent", comment, sizeof(comment)));
	ck_assert_str_eq(comment, "");
	ck_ok(nft_rule_comment(NFPROTO_INET, "absent", "c", comment, sizeof(comment)));
	ck_assert_str_eq(comment, "");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("net_egress");
	TCase *tc = tcase_create("net_egress");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_parse);
	tcase_add_test(tc, test_within);
	tcase_add_test(tc, test_merge);
	tcase_add_test(tc, test_read_bounds);
	tcase_add_test(tc, test_never_reached);
	tcase_add_test(tc, test_lists);
	tcase_add_test(tc, test_deny_all_leaves_dns_and_host);
	tcase_add_test(tc, test_connections_are_cut);
	tcase_add_test(tc, test_datagrams_are_cut);
	tcase_add_test(tc, test_swaps_have_no_seam);
	tcase_add_test(tc, test_renew);
	tcase_add_test(tc, test_renew_resolver);
	tcase_add_test(tc, test_longest_lists);
	tcase_add_test(tc, test_slot_is_gone);
	tcase_add_test(tc, test_next_slot_is_open);
	tcase_add_test(tc, test_no_ipv6);
	tcase_add_test(tc, test_comment);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
