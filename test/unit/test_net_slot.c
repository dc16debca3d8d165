/* SPDX-License-Identifier: Apache-2.0 */
/* Slots come, are found again, and go without a trace, whoever is killed on the way. */
#include "net_world.h"

#include <signal.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

struct acquirer {
	struct net *net;
	struct sandbox_id id;
	struct net_slot slot;
	struct op op;
	int result;
	pthread_t thread;
};

static void *acquirer_main(void *arg)
{
	struct acquirer *a = arg;

	a->op = test_op();
	a->slot = (struct net_slot)NET_SLOT_INIT;
	a->result = net_slot_acquire(a->net, &a->id, &a->slot, &a->op);
	return NULL;
}

static void *releaser_main(void *arg)
{
	struct acquirer *a = arg;

	net_slot_done(&a->slot);
	net_slot_done(&a->slot);
	a->op = test_op();
	a->result = net_slot_release(a->net, &a->id, &a->op);
	return NULL;
}

static void all_at_once(struct acquirer *a, size_t n, void *(*fn)(void *arg))
{
	for (size_t i = 0; i < n; i++)
		ck_assert_int_eq(pthread_create(&a[i].thread, NULL, fn, &a[i]), 0);
	for (size_t i = 0; i < n; i++) {
		pthread_join(a[i].thread, NULL);
		ck_op(a[i].result, &a[i].op);
	}
}

START_TEST(test_parallel)
{
	auto_free char *before = NULL, *after = NULL;
	struct acquirer a[8];
	struct err e = { 0 };
	struct net *net;

	world_enter();
	ck_ok(netns_delete("world")); /* makes nothing */
	fd_close(&(int){ world_netns("world") });
	before = world_inventory();
	net = open_net("aaaa", 0);
	for (size_t i = 0; i < ARRAY_SIZE(a); i++)
		a[i] = (struct acquirer){ .net = net, .id = id_new() };
	for (int round = 0; round < 2; round++) {
		all_at_once(a, ARRAY_SIZE(a), acquirer_main);
		for (size_t i = 0; i < ARRAY_SIZE(a); i++)
			for (size_t j = 0; j < i; j++)
				ck_assert(a[i].slot.number != a[j].slot.number &&
					  a[i].slot.addr.s_addr != a[j].slot.addr.s_addr);
		ck_ok(net_teardown(net, &e)); /* not while there are slots */
		all_at_once(a, ARRAY_SIZE(a), releaser_main);
		all_at_once(a, ARRAY_SIZE(a), releaser_main);
	}
	ck_ok(net_teardown(net, &e));
	ck_ok(net_teardown(net, &e));
	net_close(net);
	after = world_inventory();
	assert_same(before, after);
}
END_TEST

START_TEST(test_names)
{
	struct sandbox_id id = id_new();
	auto_free char *alias = NULL;
	struct net_slot slot;
	struct net *net;

	world_enter();
	net = open_net("aaaa", IP(10, 11, 8, 0));
	ck_assert_uint_eq(net_block(net), IP(10, 11, 8, 0));
	slot = acquire(net, &id);
	ck_assert_uint_eq(slot.number, 0);
	ck_assert_str_eq(slot.link, "vivaaaa-0");
	ck_assert_str_eq(slot.netns, "viv-aaaa-0");
	ck_assert_uint_eq(addr_of(&slot), IP(10, 11, 8, 1));
	ck_assert_int_ge(slot.netns_fd, 0);
	ck_assert_int_eq(slot.tap_fd, -1);
	alias = world_run((const char *const[]){ "ip", "link", "show", "vivaaaa-0", NULL });
	ck_assert_ptr_nonnull(strstr(alias, id.s));
	net_slot_done(&slot);
	net_close(net);
}
END_TEST

static bool in_list(const struct sandbox_id *id, void *arg)
{
	const struct sandbox_id *known = arg;

	return known != NULL && id_equal(id, known);
}

static int sweep(struct net *net, struct sandbox_id *known)
{
	struct op op = test_op();
	int r = net_sweep(net, in_list, known, &op);

	ck_op(r, &op);
	return r;
}

START_TEST(test_adopt)
{
	struct sandbox_id id = id_new(), other = id_new();
	struct net_slot slot, found = NET_SLOT_INIT;
	struct op op = test_op();
	uint32_t block;
	struct net *net;

	world_enter();
	net = open_net("aaaa", IP(10, 11, 20, 0));
	slot = acquire(net, &other);
	net_slot_done(&slot);
	slot = acquire(net, &id);
	net_slot_done(&slot);
	block = net_block(net);
	net_close(net);

	net = open_net("aaaa", 0); /* the hint is lost, the slots are not */
	ck_assert_uint_eq(net_block(net), block);
	ck_assert_int_eq(net_slot_adopt(net, &id, &found, &op), 1);
	ck_assert_uint_eq(found.number, slot.number);
	ck_assert_str_eq(found.link, slot.link);
	ck_assert_str_eq(found.netns, slot.netns);
	ck_assert_uint_eq(found.addr.s_addr, slot.addr.s_addr);
	ck_op(net_slot_tap(&found, &op), &op);
	ck_assert_int_lt(net_slot_tap(&(struct net_slot){ .netns_fd = found.netns_fd,
							  .tap = "tap0",
							  .netns = "viv-aaaa-1",
							  .tap_fd = -1 },
				      &op),
			 0);
	ck_assert_int_eq(op.err.kind, ERR_CONFLICT); /* somebody has the tap */
	op = test_op();
	ck_op(net_slot_tap(&found, &op), &op); /* its own one is replaced */
	ck_ok(netns_delete(found.netns));
	ck_assert_int_eq(net_slot_adopt(net, &id, &slot, &op), 0);
	release(net, &id);
	net_slot_done(&found);
	ck_assert_int_eq(net_slot_adopt(net, &id, &found, &op), 0);
	release(net, &other);
	ck_assert_int_eq(sweep(net, NULL), 0);
	net_close(net);
}
END_TEST

START_TEST(test_sweep_each_step)
{
	auto_free char *before = NULL, *after = NULL;
	struct sandbox_id mine = id_new(), gone = id_new(), theirs = id_new();
	struct net *net, *neighbour;
	struct net_slot slot;
	auto_close int fd = -1, nl = -1;
	struct err e = { 0 };

	world_enter();
	net = open_net("aaaa", 0);
	neighbour = open_net("bbbb", 0);
	slot = acquire(net, &mine);
	net_slot_done(&slot);
	slot = acquire(neighbour, &theirs);
	net_slot_done(&slot);
	nl = netns_rtnl(-1);
	before = world_inventory();

	world_write("/run/netns/viv-aaaa-10", ""); /* killed before the namespace was mounted */
	ck_ok(netns_create("viv-aaaa-11", &e));    /* before the link */
	fd = world_netns("viv-aaaa-12");           /* before the alias */
	ck_ok(link_add_veth(nl, "vivaaaa-12", "up0", fd));
	fd_close(&fd);
	slot = acquire(net, &gone); /* after it, and the daemon lost the sandbox */
	net_slot_done(&slot);
	ck_ok(netns_create("viv-aaaa-13", &e)); /* in the middle of a removal */
	ck_ok(netns_create("viv-aaaa-x", &e));  /* not ours */
	ck_ok(netns_create("viv-aaaa-512", &e));
	ck_assert_int_eq(sweep(net, &mine), 5);
	ck_assert_int_eq(sweep(net, &mine), 0);
	ck_ok(netns_delete("viv-aaaa-x"));
	ck_ok(netns_delete("viv-aaaa-512"));
	after = world_inventory();
	assert_same(before, after);
	ck_assert_int_eq(sweep(net, NULL), 1);
	ck_assert_int_eq(sweep(neighbour, &theirs), 0);
	net_close(net);
	net_close(neighbour);
}
END_TEST

static void acquire_until_killed(struct net *net)
{
	struct sandbox_id id = id_new();
	struct net_slot slot = acquire(net, &id);

	net_slot_done(&slot);
	release(net, &id);
	_exit(0);
}

/* Kill a process at ever later moments of making and removing a slot. */
START_TEST(test_kill_anywhere)
{
	auto_free char *before = NULL;
	struct net *net;

	world_enter();
	fd_close(&(int){ world_netns("world") });
	net = open_net("aaaa", 0);
	before = world_inventory();
	for (int ms = 0; ms < 24; ms++) {
		pid_t pid = fork();
		auto_free char *after = NULL;
		auto_close int pidfd = -1;

		ck_assert_int_ge(pid, 0);
		if (pid == 0)
			acquire_until_killed(net);
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		ck_assert_int_ge(pidfd, 0);
		world_readable(pidfd, ms);
		kill(pid, SIGKILL);
		ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
		sweep(net, NULL);
		after = world_inventory();
		assert_same(before, after);
	}
	net_close(net);
}
END_TEST

static void *sweeper_main(void *arg)
{
	struct acquirer *a = arg;

	a->op = test_op();
	a->result = net_sweep(a->net, in_list, &a->id, &a->op);
	return NULL;
}

START_TEST(test_sweep_beside_acquire)
{
	struct acquirer a[2];
	struct net *net;

	world_enter();
	net = open_net("aaaa", 0);
	for (int round = 0; round < 10; round++) {
		struct net_slot found = NET_SLOT_INIT;
		struct op op = test_op();

		a[0] = (struct acquirer){ .net = net, .id = id_new() };
		a[1] = a[0];
		ck_assert_int_eq(pthread_create(&a[0].thread, NULL, acquirer_main, &a[0]), 0);
		ck_assert_int_eq(pthread_create(&a[1].thread, NULL, sweeper_main, &a[1]), 0);
		pthread_join(a[0].thread, NULL);
		pthread_join(a[1].thread, NULL);
		ck_op(a[0].result, &a[0].op);
		ck_op(a[1].result, &a[1].op);
		ck_assert_int_eq(a[1].result, 0);
		ck_assert_int_eq(net_slot_adopt(net, &a[0].id, &found, &op), 1);
		net_slot_done(&found);
		net_slot_done(&a[0].slot);
		release(net, &a[0].id);
	}
	net_close(net);
}
END_TEST

START_TEST(test_exhausted)
{
	struct sandbox_id id = id_new();
	struct net_slot slot = NET_SLOT_INIT;
	struct op op = test_op();
	struct net *net;
	char path[64];

	world_enter();
	net = open_net("aaaa", 0);
	ck_ok(file_mkdirs("/run/netns"));
	for (int i = 0; i < NET_SLOTS_MAX; i++) { /* a taken name takes the number */
		ck_ok(str_fit(path, sizeof(path), "/run/netns/viv-aaaa-%d", i));
		world_write(path, "");
	}
	ck_assert_int_lt(net_slot_acquire(net, &id, &slot, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_EXHAUSTED);
	ck_assert_int_eq(slot.netns_fd, -1);
	ck_ok(netns_delete("viv-aaaa-300"));
	slot = acquire(net, &id);
	ck_assert_uint_eq(slot.number, 300);
	net_slot_done(&slot);
	release(net, &id);
	ck_assert_int_eq(sweep(net, NULL), NET_SLOTS_MAX - 1);
	net_close(net);
}
END_TEST

/* A foreign link that has the name: the number is passed over, and nothing of it is touched. */
START_TEST(test_taken_link)
{
	struct sandbox_id id = id_new();
	auto_close int nl = -1, fd = -1;
	struct net_slot slot;
	struct net *net;

	world_enter();
	net = open_net("aaaa", 0);
	nl = netns_rtnl(-1);
	fd = world_netns("elsewhere");
	ck_ok(link_add_veth(nl, "vivaaaa-0", "peer", fd));
	slot = acquire(net, &id);
	ck_assert_uint_eq(slot.number, 1);
	ck_assert_int_eq(netns_open("viv-aaaa-0"), -ENOENT);
	ck_ok(link_set_up(nl, "vivaaaa-0"));
	net_slot_done(&slot);
	net_close(net);
}
END_TEST

START_TEST(test_ended_op)
{
	auto_free char *before = NULL, *after = NULL;
	struct sandbox_id id = id_new();
	struct net_slot slot = NET_SLOT_INIT;
	struct op op = test_op();
	struct net *net;

	world_enter();
	fd_close(&(int){ world_netns("world") });
	net = open_net("aaaa", 0);
	before = world_inventory();
	op.deadline_ns = 1;
	ck_assert_int_eq(net_slot_acquire(net, &id, &slot, &op), -ETIMEDOUT);
	ck_assert_int_eq(op.err.kind, ERR_TIMEOUT);
	after = world_inventory();
	assert_same(before, after);
	net_close(net);
}
END_TEST

/* A step in the middle fails: nothing stays. */
START_TEST(test_failure_undone)
{
	auto_free char *before = NULL, *after = NULL;
	struct sandbox_id id = id_new();
	struct net_slot slot = NET_SLOT_INIT;
	struct op op = test_op();
	struct net *net;

	world_enter();
	fd_close(&(int){ world_netns("world") });
	net = open_net("aaaa", 0);
	before = world_inventory();
	ck_assert_int_eq(setenv("PATH", "/nowhere", 1), 0);
	ck_assert_int_eq(mount("none", "/usr/sbin", "tmpfs", 0, NULL), 0); /* no nft */
	ck_assert_int_lt(net_slot_acquire(net, &id, &slot, &op), 0);
	ck_assert_ptr_nonnull(strstr(op.err.msg, "nft"));
	ck_assert_int_eq(umount("/usr/sbin"), 0);
	after = world_inventory();
	assert_same(before, after);
	net_close(net);
}
END_TEST

START_TEST(test_two_instances)
{
	struct sandbox_id id = id_new();
	struct net_config config = config_of("aaaa", 0);
	struct net *a, *b, *none = NULL;
	struct net_slot slot[2];
	struct err e = { 0 };
	auto_free char *rules = NULL;

	world_enter();
	a = open_net("aaaa", 0);
	b = open_net("bbbb", net_block(a)); /* a stale hint */
	ck_assert_uint_ne(net_block(a), net_block(b));
	slot[0] = acquire(a, &id);
	slot[1] = acquire(b, &id);
	ck_assert_uint_ne(slot[0].addr.s_addr, slot[1].addr.s_addr);
	ck_assert_int_lt(net_open(&config, &none, &e), 0); /* the same instance twice */
	ck_assert_int_eq(e.kind, ERR_CONFLICT);
	ck_assert_ptr_null(none);
	release(a, &id);
	net_slot_done(&slot[0]);
	ck_ok(net_teardown(a, &e));
	net_close(a);
	rules = world_run((const char *const[]){ "nft", "list", "tables", NULL });
	ck_assert_str_eq(rules, "table inet vivarium_bbbb\n");
	net_close(b); /* its slot still holds the block */
	a = open_net("aaaa", IP(10, 11, 4, 0));
	ck_assert_uint_ne(net_block(a), net_block(b = open_net("bbbb", 0)));
	ck_assert_uint_eq(net_block(b), IP(10, 11, 4, 0));
	net_slot_done(&slot[1]);
	net_close(a);
	net_close(b);
}
END_TEST

START_TEST(test_block_choice)
{
	struct net_config config = config_of("aaaa", 0);
	auto_close int nl = -1, fd = -1;
	struct net *net = NULL;
	struct err e = { 0 };

	world_enter();
	nl = netns_rtnl(-1);
	fd = world_netns("lan");
	ck_ok(link_add_veth(nl, "lan0", "lan1", fd));
	ck_ok(link_add_addr(nl, "lan0", IP(10, 11, 0, 9), 24)); /* in the first block */
	ck_ok(link_add_addr(nl, "lan0", IP(10, 11, 8, 1), 21)); /* over the third and fourth */
	ck_ok(link_set_up(nl, "lan0"));
	free(world_run((const char *const[]){ "ip", "route", "add", "10.11.4.0/25", "dev", "lan0",
					      NULL })); /* in the second */
	free(world_run((const char *const[]){ "ip", "route", "add", "0.0.0.0/1", "dev", "lan0",
					      NULL })); /* a VPN's default route */
	net = open_net("aaaa", IP(10, 11, 8, 0));
	ck_assert_uint_eq(net_block(net), IP(10, 11, 16, 0));
	net_close(net);
	net = open_net("aaaa", IP(192, 168, 0, 0)); /* a hint of another range */
	ck_assert_uint_eq(net_block(net), IP(10, 11, 16, 0));
	net_close(net);

	ck_ok(link_add_addr(nl, "lan0", IP(10, 9, 9, 9), 8));
	net = NULL;
	ck_assert_int_lt(net_open(&config, &net, &e), 0);
	ck_assert_int_eq(e.kind, ERR_EXHAUSTED);
	ck_assert_ptr_nonnull(strstr(e.msg, "network_range"));
	ck_assert_ptr_nonnull(strstr(e.msg, "10.9.9.9/8"));
	e = (struct err){ 0 };
	config.range_prefix = 23;
	ck_assert_int_lt(net_open(&config, &net, &e), 0);
	ck_assert_int_eq(e.kind, ERR_INVALID);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("net_slot");
	TCase *tc = tcase_create("net_slot");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_parallel);
	tcase_add_test(tc, test_names);
	tcase_add_test(tc, test_adopt);
	tcase_add_test(tc, test_sweep_each_step);
	tcase_add_test(tc, test_kill_anywhere);
	tcase_add_test(tc, test_sweep_beside_acquire);
	tcase_add_test(tc, test_exhausted);
	tcase_add_test(tc, test_taken_link);
	tcase_add_test(tc, test_ended_op);
	tcase_add_test(tc, test_failure_undone);
	tcase_add_test(tc, test_two_instances);
	tcase_add_test(tc, test_block_choice);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
