/* SPDX-License-Identifier: Apache-2.0 */
/* Slots made ahead: bounded, claimed once each, whole, up to date, and found again after a kill. */
#include "net_world.h"

#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct net *open_pool(unsigned size)
{
	struct net_config config = config_of("aaaa", 0);
	struct net *net = NULL;
	struct err e = { 0 };

	config.pool_size = size;
	ck_assert_msg(net_open(&config, &net, &e) == 0, "%s", e.msg);
	return net;
}

/* Fills the pool. Return: how many things there were to do. */
static int fill(struct net *net)
{
	struct op op = test_op();
	int n = 0;
	int r;

	while ((r = net_pool_fill(net, &op)) > 0)
		n++;
	ck_op(r, &op);
	return n;
}

static bool nobody(const struct sandbox_id *id, void *arg)
{
	(void)id;
	(void)arg;
	return false;
}

static int sweep(struct net *net)
{
	struct op op = test_op();
	int r = net_sweep(net, nobody, NULL, &op);

	ck_op(r, &op);
	return r;
}

static unsigned count(const char *text, const char *what)
{
	unsigned n = 0;

	for (const char *p = strstr(text, what); p != NULL; p = strstr(p + 1, what))
		n++;
	return n;
}

/* How many links say that they are ready. */
static unsigned ready_links(void)
{
	auto_free char *links = world_run((const char *const[]){ "ip", "link", NULL });

	return count(links, "alias ready");
}

static void drain_and_close(struct net *net)
{
	struct err e = { 0 };

	ck_assert_msg(net_pool_drain(net, &e) == 0, "%s", e.msg);
	ck_assert_uint_eq(net_pool_ready(net), 0);
	ck_assert_msg(net_teardown(net, &e) == 0, "%s", e.msg);
	net_close(net);
}

/* The inventory with nothing of ours, once /run/netns exists. */
static char *enter_and_look(void)
{
	world_enter();
	fd_close(&(int){ world_netns("world") });
	return world_inventory();
}

static void assert_nothing_left(const char *before)
{
	auto_free char *after = world_inventory();

	assert_same(before, after);
}

struct worker {
	struct net *net;
	struct sandbox_id id;
	struct net_slot slot;
	struct op op;
	int result;
	pthread_t thread;
};

static void *filler_main(void *arg)
{
	struct worker *w = arg;

	w->op = test_op();
	do
		w->result = net_pool_fill(w->net, &w->op);
	while (w->result > 0);
	return NULL;
}

static void *claimer_main(void *arg)
{
	struct worker *w = arg;

	w->op = test_op();
	w->slot = (struct net_slot)NET_SLOT_INIT;
	w->result = net_slot_acquire(w->net, &w->id, &w->slot, &w->op);
	return NULL;
}

static bool is_worker(const struct sandbox_id *id, void *arg)
{
	const struct worker *w = arg;

	for (; w->net != NULL; w++)
		if (id_equal(&w->id, id))
			return true;
	return false;
}

static void *sweeper_main(void *arg)
{
	struct worker *w = arg;

	w->op = test_op();
	w->result = net_sweep(w->net, is_worker, w + 1, &w->op);
	return NULL;
}

static void start(struct worker *w, struct net *net, void *(*fn)(void *arg))
{
	w->net = net;
	w->id = id_new();
	ck_assert_int_eq(pthread_create(&w->thread, NULL, fn, w), 0);
}

static void join(struct worker *w)
{
	pthread_join(w->thread, NULL);
	ck_op(w->result, &w->op);
}

static void assert_distinct(const struct worker *w, size_t n)
{
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j < i; j++)
			ck_assert(w[i].slot.number != w[j].slot.number &&
				  w[i].slot.addr.s_addr != w[j].slot.addr.s_addr);
}

static void give_back(struct worker *w)
{
	net_slot_done(&w->slot);
	release(w->net, &w->id);
}

START_TEST(test_bound)
{
	auto_free char *before = enter_and_look();
	struct net *net = open_pool(3);
	struct worker fillers[6];
	struct err e = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(fillers); i++)
		start(&fillers[i], net, filler_main);
	for (size_t i = 0; i < ARRAY_SIZE(fillers); i++)
		join(&fillers[i]);
	ck_assert_uint_eq(net_pool_ready(net), 3);
	ck_assert_uint_eq(ready_links(), 3);
	ck_assert_int_eq(fill(net), 0);
	ck_ok(net_teardown(net, &e)); /* not while there are slots */
	ck_assert_int_eq(fill(net), 0);
	drain_and_close(net);
	assert_nothing_left(before);
}
END_TEST

START_TEST(test_no_pool)
{
	struct net *net;

	world_enter();
	net = open_pool(0);
	ck_assert_int_eq(fill(net), 0);
	ck_assert_uint_eq(net_pool_ready(net), 0);
	drain_and_close(net);
}
END_TEST

START_TEST(test_parallel_claims)
{
	auto_free char *before = enter_and_look();
	struct net *net = open_pool(4);
	struct worker w[8];
	bool ahead[NET_SLOTS_MAX] = { false };
	unsigned n = 0;

	ck_assert_int_eq(fill(net), 4);
	for (unsigned i = 0; i < 4; i++) /* the first that were made */
		ahead[i] = true;
	for (size_t i = 0; i < ARRAY_SIZE(w); i++)
		start(&w[i], net, claimer_main);
	for (size_t i = 0; i < ARRAY_SIZE(w); i++)
		join(&w[i]);
	assert_distinct(w, ARRAY_SIZE(w));
	for (size_t i = 0; i < ARRAY_SIZE(w); i++)
		n += ahead[w[i].slot.number];
	ck_assert_uint_eq(n, 4);
	ck_assert_uint_eq(ready_links(), 0);
	ck_assert_int_eq(fill(net), 4); /* behind them */
	for (size_t i = 0; i < ARRAY_SIZE(w); i++)
		give_back(&w[i]);
	ck_assert_uint_eq(ready_links(), 4); /* what was used does not come back */
	ck_assert_int_eq(fill(net), 0);
	drain_and_close(net);
	assert_nothing_left(before);
}
END_TEST

/* Claims, fillings and sweeps, all at once: nothing is given twice, and nothing is swept away. */
START_TEST(test_all_at_once)
{
	auto_free char *before = enter_and_look();
	struct net *net = open_pool(3);

	for (int round = 0; round < 8; round++) {
		struct worker w[8] = { 0 }; /* sweeper, claimers, (end of list), fillers */

		for (int i = 1; i < 5; i++)
			w[i].id = id_new();
		start(&w[6], net, filler_main);
		for (int i = 1; i < 5; i++) {
			w[i].net = net;
			ck_assert_int_eq(pthread_create(&w[i].thread, NULL, claimer_main, &w[i]),
					 0);
		}
		start(&w[0], net, sweeper_main);
		start(&w[7], net, filler_main);
		for (int i = 0; i < 8; i++)
			if (i != 5)
				join(&w[i]);
		ck_assert_int_eq(w[0].result, 0);
		assert_distinct(&w[1], 4);
		fill(net);
		ck_assert_uint_eq(net_pool_ready(net), 3);
		ck_assert_uint_eq(ready_links(), 3);
		for (int i = 1; i < 5; i++) {
			struct net_slot found = NET_SLOT_INIT;
			struct op op = test_op();

			ck_assert_int_eq(net_slot_adopt(net, &w[i].id, &found, &op), 1);
			ck_assert_uint_eq(found.number, w[i].slot.number);
			net_slot_done(&found);
			give_back(&w[i]);
		}
	}
	drain_and_close(net);
	assert_nothing_left(before);
}
END_TEST

/* All of a slot, but its numbers, and what the kernel notes of a carrier when it comes round. */
static char *look_inside(const struct net_slot *slot)
{
	static const char script[] =
		"n=$1; ip netns exec $n sh -c 'ip addr; ip route; nft list ruleset; "
		"cat /proc/sys/net/ipv4/ip_forward'"
		" | sed -E 's/10\\.11\\.0\\.[0-9]+/ADDR/g; s/link.ether [^ ]+/MAC/; "
		"s/@if[0-9]+//; s/^[0-9]+: //; s/NO-CARRIER,//; s/state [A-Z]+//'; "
		"ip link show $2 | grep -o LOWER_UP; "
		"cat /proc/sys/net/ipv6/conf/$2/disable_ipv6";

	return world_run(
		(const char *const[]){ "sh", "-c", script, "-", slot->netns, slot->link, NULL });
}

START_TEST(test_same_as_made)
{
	struct sandbox_id id[2] = { id_new(), id_new() };
	auto_free char *ready = NULL, *made = NULL;
	struct net_slot slot[2];
	struct net *net;

	world_enter();
	world_resolver("nameserver 198.51.100.7\n");
	net = open_pool(1);
	fill(net);
	slot[0] = acquire(net, &id[0]);
	ck_assert_uint_eq(net_pool_ready(net), 0);
	slot[1] = acquire(net, &id[1]);
	ck_assert_int_ge(slot[0].netns_fd, 0);
	ck_assert_int_eq(slot[0].tap_fd, -1);
	ready = look_inside(&slot[0]);
	made = look_inside(&slot[1]);
	ck_assert_uint_eq(count(ready, "198.51.100.7"), 1);
	ck_assert_uint_eq(count(ready, "LOWER_UP"), 3); /* with lo */
	assert_same(ready, made);
	for (int i = 0; i < 2; i++) {
		struct op op = test_op();

		ck_op(net_slot_tap(&slot[i], &op), &op);
		net_slot_done(&slot[i]);
		release(net, &id[i]);
	}
	drain_and_close(net);
}
END_TEST

static void run_inside(const char *netns, const char *command)
{
	free(world_run(
		(const char *const[]){ "ip", "netns", "exec", netns, "sh", "-c", command, NULL }));
}

static char *rules_inside(const char *netns)
{
	return world_run((const char *const[]){ "ip", "netns", "exec", netns, "nft", "list",
						"ruleset", NULL });
}

/* What another daemon left is taken in, as much as there is room for, and written anew. */
START_TEST(test_adopt)
{
	auto_free char *before = enter_and_look();
	auto_free char *rules = NULL;
	struct sandbox_id id = id_new();
	struct net *net = open_pool(4);
	uint32_t block = net_block(net);
	struct net_slot slot;

	fill(net);
	net_close(net);
	for (int i = 0; i < 4; i++) { /* as if that was an older version */
		auto_free char *netns = str_printf("viv-aaaa-%d", i);

		run_inside(netns, "nft flush ruleset");
	}
	net = open_pool(3);
	ck_assert_uint_eq(net_block(net), block);
	ck_assert_int_eq(sweep(net), 1);
	ck_assert_int_eq(sweep(net), 0);
	ck_assert_uint_eq(net_pool_ready(net), 3);
	slot = acquire(net, &id); /* sooner than the filling */
	rules = rules_inside(slot.netns);
	ck_assert_ptr_nonnull(strstr(rules, "dnat ip to 169.254.0.21"));
	ck_assert_int_eq(fill(net), 3); /* two are written anew, one is made */
	free(take_ptr(&rules));
	rules = rules_inside("viv-aaaa-2");
	ck_assert_ptr_nonnull(strstr(rules, "dnat ip to 169.254.0.21"));
	net_slot_done(&slot);
	release(net, &id);
	net_close(net);

	net = open_pool(0);
	ck_assert_int_eq(sweep(net), 3);
	drain_and_close(net);
	assert_nothing_left(before);
}
END_TEST

START_TEST(test_half_made)
{
	auto_free char *before = enter_and_look();
	struct net *net = open_pool(4);
	auto_close int nl = netns_rtnl(-1), held = -1, fd = -1;
	struct err e = { 0 };

	fill(net);
	net_close(net);
	held = netns_open("viv-aaaa-1"); /* or else its end of the link would go with it */
	ck_ok(link_set_alias(nl, "vivaaaa-0", "")); /* killed just before the last step */
	ck_ok(netns_delete("viv-aaaa-1"));          /* it says ready, and is not whole */
	ck_ok(link_delete(nl, "vivaaaa-2"));        /* in the middle of a removal */
	fd = world_netns("viv-aaaa-9");             /* in the middle of making */
	ck_ok(link_add_veth(nl, "vivaaaa-9", "up0", fd));
	ck_ok(netns_create("viv-aaaa-10", &e));
	fd_close(&fd);
	net = open_pool(4);
	ck_assert_int_eq(sweep(net), 5);
	fd_close(&held);
	ck_assert_uint_eq(net_pool_ready(net), 1);
	ck_assert_int_eq(fill(net), 4); /* one anew, three made */
	ck_assert_uint_eq(ready_links(), 4);
	drain_and_close(net);
	assert_nothing_left(before);
}
END_TEST

START_TEST(test_resolver_changed)
{
	struct sandbox_id id = id_new();
	auto_free char *rules = NULL, *host = NULL;
	struct net_slot slot;
	struct net *net;

	world_enter();
	world_resolver("nameserver 198.51.100.7\n");
	net = open_pool(2);
	ck_assert_int_eq(fill(net), 2);
	world_write("/run/resolv.conf", "nameserver 198.51.100.8\n");
	slot = acquire(net, &id); /* sooner than the filling */
	rules = rules_inside(slot.netns);
	ck_assert_ptr_nonnull(strstr(rules, "dnat ip to 198.51.100.8"));
	ck_assert_ptr_null(strstr(rules, "198.51.100.7"));
	host = world_run((const char *const[]){ "nft", "list", "set", "inet", "vivarium_aaaa",
						"resolvers", NULL });
	ck_assert_ptr_nonnull(strstr(host, "198.51.100.7, 198.51.100.8"));
	ck_assert_int_eq(fill(net), 2); /* the other one, and one that is made */
	free(take_ptr(&rules));
	rules = rules_inside("viv-aaaa-1");
	ck_assert_ptr_nonnull(strstr(rules, "dnat ip to 198.51.100.8"));
	net_slot_done(&slot);
	release(net, &id);
	drain_and_close(net);
}
END_TEST

/* As a reload of the host's own firewall does. */
START_TEST(test_ruleset_flushed)
{
	static const char *const flush[] = { "nft", "flush", "ruleset", NULL };
	static const char *const list[] = { "nft", "list", "table", "inet", "vivarium_aaaa", NULL };
	auto_free char *before = NULL;
	struct net *net;

	world_enter();
	world_resolver("nameserver 198.51.100.7\n");
	net = open_pool(1);
	before = world_run(list);
	ck_assert_ptr_nonnull(strstr(before, "198.51.100.7"));
	for (int i = 0; i < 3; i++) { /* a filling, a claim, a slot that is made */
		struct sandbox_id id = id_new();
		auto_free char *after = NULL;

		free(world_run(flush));
		if (i == 0) {
			ck_assert_int_eq(fill(net), 1);
		} else {
			struct net_slot slot = acquire(net, &id);

			net_slot_done(&slot);
		}
		after = world_run(list);
		assert_same(before, after);
	}
	net_close(net);
}
END_TEST

/* Somebody took a ready slot away, or a part of it: the next one is claimed. */
START_TEST(test_broken_slots)
{
	auto_free char *before = enter_and_look();
	struct sandbox_id id = id_new();
	struct net *net = open_pool(4);
	auto_close int nl = netns_rtnl(-1), held = -1;
	struct net_slot slot;

	fill(net);
	held = netns_open("viv-aaaa-1"); /* or else its end of the link would go with it */
	ck_ok(link_delete(nl, "vivaaaa-0"));
	ck_ok(netns_delete("viv-aaaa-1"));
	slot = acquire(net, &id);
	ck_assert_uint_eq(slot.number, 2);
	ck_assert_int_eq(netns_open("viv-aaaa-0"), -ENOENT);
	ck_assert_int_eq(link_set_up(nl, "vivaaaa-1"), -ENODEV);
	fd_close(&held);
	ck_assert_uint_eq(net_pool_ready(net), 1);
	ck_assert_int_eq(fill(net), 3);
	net_slot_done(&slot);
	release(net, &id);
	drain_and_close(net);
	assert_nothing_left(before);
}
END_TEST

START_TEST(test_ended_op)
{
	struct sandbox_id id = id_new();
	struct net_slot slot = NET_SLOT_INIT;
	struct op op = test_op();
	struct net *net;

	world_enter();
	net = open_pool(2);
	fill(net);
	op.deadline_ns = 1;
	ck_assert_int_eq(net_slot_acquire(net, &id, &slot, &op), -ETIMEDOUT);
	ck_assert_int_eq(slot.netns_fd, -1);
	ck_assert_uint_eq(ready_links(), 2);
	op = test_op();
	op.deadline_ns = 1;
	ck_assert_int_eq(net_pool_fill(net, &op), 0);
	drain_and_close(net);
}
END_TEST

START_TEST(test_failure)
{
	auto_free char *before = enter_and_look();
	struct sandbox_id id = id_new();
	struct op op = test_op();
	struct net *net = open_pool(2);
	struct net_slot slot;

	ck_assert_int_eq(mount("none", "/usr/sbin", "tmpfs", 0, NULL), 0); /* no nft */
	ck_assert_int_eq(setenv("PATH", "/usr/bin:/bin", 1), 0);
	for (int i = 0; i < 3; i++) {
		op = test_op();
		ck_assert_int_lt(net_pool_fill(net, &op), 0);
		ck_assert_ptr_nonnull(strstr(op.err.msg, "nft"));
	}
	ck_assert_uint_eq(net_pool_ready(net), 0);
	ck_assert_int_eq(umount("/usr/sbin"), 0);
	ck_assert_int_eq(fill(net), 2);

	/* what is ready can be claimed without nft */
	ck_assert_int_eq(mount("none", "/usr/sbin", "tmpfs", 0, NULL), 0);
	slot = acquire(net, &id);
	ck_assert_int_eq(umount("/usr/sbin"), 0);
	net_slot_done(&slot);
	release(net, &id);
	drain_and_close(net);
	assert_nothing_left(before);
}
END_TEST

START_TEST(test_exhausted)
{
	struct sandbox_id id[2] = { id_new(), id_new() };
	struct net_slot slot, none = NET_SLOT_INIT;
	struct op op = test_op();
	struct net *net;

	world_enter();
	net = open_pool(1);
	fill(net);
	for (int i = 1; i < NET_SLOTS_MAX; i++) { /* a taken name takes the number */
		auto_free char *path = str_printf("/run/netns/viv-aaaa-%d", i);

		world_write(path, "");
	}
	slot = acquire(net, &id[0]); /* the last one is the pool's */
	ck_assert_int_lt(net_pool_fill(net, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_EXHAUSTED);
	op = test_op();
	ck_assert_int_lt(net_slot_acquire(net, &id[1], &none, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_EXHAUSTED);
	net_slot_done(&slot);
	release(net, &id[0]);
	ck_assert_int_eq(fill(net), 1);
	ck_assert_int_eq(sweep(net), NET_SLOTS_MAX - 1);
	drain_and_close(net);
}
END_TEST

static void fill_and_claim_until_killed(struct net *net)
{
	struct sandbox_id id = id_new();
	struct net_slot slot;

	fill(net);
	slot = acquire(net, &id);
	net_slot_done(&slot);
	_exit(0);
}

/* Kill a process at ever later moments of filling and claiming; the next one has a full pool. */
START_TEST(test_kill_anywhere)
{
	auto_free char *before = enter_and_look();

	ck_assert_int_eq(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	for (int ms = 0; ms < 48; ms += 2) {
		struct net *net = open_pool(3);
		auto_close int pidfd = -1;
		pid_t pid = fork();

		ck_assert_int_ge(pid, 0);
		if (pid == 0)
			fill_and_claim_until_killed(net);
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		ck_assert_int_ge(pidfd, 0);
		world_readable(pidfd, ms);
		kill(pid, SIGKILL);
		while (waitpid(-1, NULL, 0) > 0) /* also the nft that it may have started */
			;
		net_close(net);

		net = open_pool(3);
		sweep(net);
		fill(net);
		ck_assert_uint_eq(net_pool_ready(net), 3);
		ck_assert_uint_eq(ready_links(), 3);
		drain_and_close(net);
		assert_nothing_left(before);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("net_pool");
	TCase *tc = tcase_create("net_pool");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_bound);
	tcase_add_test(tc, test_no_pool);
	tcase_add_test(tc, test_parallel_claims);
	tcase_add_test(tc, test_all_at_once);
	tcase_add_test(tc, test_same_as_made);
	tcase_add_test(tc, test_adopt);
	tcase_add_test(tc, test_half_made);
	tcase_add_test(tc, test_resolver_changed);
	tcase_add_test(tc, test_ruleset_flushed);
	tcase_add_test(tc, test_broken_slots);
	tcase_add_test(tc, test_ended_op);
	tcase_add_test(tc, test_failure);
	tcase_add_test(tc, test_exhausted);
	tcase_add_test(tc, test_kill_anywhere);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
