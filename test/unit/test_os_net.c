/* SPDX-License-Identifier: Apache-2.0 */
#include "net_world.h"

#include "os/conntrack.h"

#include <linux/if_tun.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

static int count_name(const char *name, void *arg)
{
	int *count = arg;

	ck_assert(str_starts(name, "t-"));
	(*count)++;
	return 0;
}

static int stop_at_once(const char *name, void *arg)
{
	(void)name;
	(void)arg;
	return -ECANCELED;
}

static int netns_count(void)
{
	int count = 0;

	ck_ok(netns_list(count_name, &count));
	return count;
}

START_TEST(test_netns_life)
{
	auto_close int fd = -1;
	struct err e = { 0 };

	world_enter();
	ck_assert_int_eq(netns_count(), 0);
	ck_assert_int_eq(netns_open("t-a"), -ENOENT);
	ck_assert_int_eq(netns_create("t-a", &e), 0);
	ck_assert_int_eq(netns_create("t-b", &e), 0);
	ck_assert_int_eq(netns_create("t-a", &e), -EEXIST);
	ck_assert(!err_is_set(&e));
	ck_assert_int_eq(netns_count(), 2);
	ck_assert_int_eq(netns_list(stop_at_once, NULL), -ECANCELED);
	fd = netns_open("t-a");
	ck_ok(fd);
	ck_ok(netns_delete("t-a"));
	ck_ok(netns_delete("t-a"));
	ck_assert_int_eq(netns_count(), 1);
	ck_ok(netns_delete("t-b"));
	ck_assert_int_eq(netns_count(), 0);
}
END_TEST

START_TEST(test_netns_leftover_file)
{
	struct err e = { 0 };

	world_enter();
	ck_ok(file_mkdirs("/run/netns"));
	world_write("/run/netns/t-a", "");
	ck_assert_int_eq(netns_open("t-a"), -ENOENT);
	ck_assert_int_eq(netns_create("t-a", &e), -EEXIST);
	ck_assert_int_eq(netns_count(), 1);
	ck_ok(netns_delete("t-a"));
	ck_assert_int_eq(netns_count(), 0);
	ck_assert_int_eq(netns_create("../t-a", &e), -EINVAL);
	ck_assert_int_eq(netns_open(".."), -EINVAL);
	ck_assert_int_eq(netns_delete(""), -EINVAL);
}
END_TEST

static int same_netns(void *arg)
{
	const struct stat *host = arg;
	struct stat here;

	ck_assert_int_eq(stat("/proc/thread-self/ns/net", &here), 0);
	return here.st_ino == host->st_ino;
}

static int fail_inside(void *arg)
{
	(void)arg;
	return -EXDEV;
}

START_TEST(test_netns_call)
{
	auto_close int fd = -1;
	struct stat host;

	world_enter();
	fd = world_netns("t-a");
	ck_assert_int_eq(stat("/proc/thread-self/ns/net", &host), 0);
	ck_assert_int_eq(netns_call(fd, same_netns, &host), 0);
	ck_assert_int_eq(netns_call(fd, fail_inside, NULL), -EXDEV);
	ck_assert_int_eq(netns_call(STDIN_FILENO, same_netns, &host), -EINVAL);
	ck_assert_int_eq(same_netns(&host), 1);
}
END_TEST

static void *create_same(void *arg)
{
	int *r = arg;

	*r = netns_create("t-a", NULL);
	return NULL;
}

START_TEST(test_netns_create_race)
{
	pthread_t threads[8];
	int results[ARRAY_SIZE(threads)], made = 0;

	world_enter();
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, create_same, &results[i]), 0);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++) {
		pthread_join(threads[i], NULL);
		ck_assert(results[i] == 0 || results[i] == -EEXIST);
		made += results[i] == 0;
	}
	ck_assert_int_eq(made, 1);
}
END_TEST

struct seen {
	const char *name;
	struct link_info link;
	int count;
};

static int see_link(const struct link_info *link, void *arg)
{
	struct seen *seen = arg;

	if (streq(link->name, seen->name)) {
		seen->link = *link;
		seen->count++;
	}
	return 0;
}

static struct link_info find_link(int nl, const char *name)
{
	struct seen seen = { .name = name };

	ck_ok(link_list(nl, see_link, &seen));
	ck_assert_int_eq(seen.count, 1);
	return seen.link;
}

START_TEST(test_link_life)
{
	auto_close int fd = -1, nl = -1, inner = -1;
	char alias[257];
	struct link_info link;

	world_enter();
	fd = world_netns("t-a");
	nl = netns_rtnl(-1);
	inner = netns_rtnl(fd);
	ck_ok(link_add_veth(nl, "h0", "up0", fd));
	ck_assert_int_eq(link_add_veth(nl, "h0", "up1", fd), -EEXIST);
	ck_assert_int_eq(link_add_veth(nl, "name-of-16-bytes", "x", fd), -ENAMETOOLONG);
	link = find_link(nl, "h0");
	ck_assert_str_eq(link.alias, "");
	ck_assert(!link.up);
	ck_ok(link_set_alias(nl, "h0", "some alias"));
	ck_ok(link_set_up(nl, "h0"));
	link = find_link(nl, "h0");
	ck_assert_str_eq(link.alias, "some alias");
	ck_assert(link.up);
	ck_assert_int_eq(link.index, (int)if_nametoindex("h0"));
	memset(alias, 'a', 256);
	alias[256] = '\0';
	ck_assert_int_eq(link_set_alias(nl, "h0", alias), -ENAMETOOLONG);
	alias[255] = '\0';
	ck_ok(link_set_alias(nl, "h0", alias));
	ck_assert_str_eq(find_link(nl, "h0").alias, alias);
	ck_ok(link_set_alias(nl, "h0", ""));
	ck_assert_str_eq(find_link(nl, "h0").alias, "");
	ck_assert(find_link(inner, "lo").up);
	ck_assert(!find_link(inner, "up0").up);
	ck_ok(link_delete(nl, "h0"));
	ck_assert_int_eq(link_delete(nl, "h0"), -ENODEV);
	ck_assert_int_eq(link_set_up(inner, "up0"), -ENODEV);
}
END_TEST

static int stop_links(const struct link_info *link, void *arg)
{
	int *calls = arg;

	(void)link;
	(*calls)++;
	return -ECANCELED;
}

START_TEST(test_link_list_many)
{
	auto_close int fd = -1, nl = -1;
	int calls = 0;
	char name[16];

	world_enter();
	fd = world_netns("t-a");
	nl = netns_rtnl(-1);
	for (int i = 0; i < 60; i++) { /* more than one message of a dump holds */
		ck_ok(str_fit(name, sizeof(name), "h%d", i));
		ck_ok(link_add_veth(nl, name, name, fd));
	}
	ck_assert_int_eq(link_list(nl, stop_links, &calls), -ECANCELED);
	ck_assert_int_eq(calls, 1);
	for (int i = 0; i < 60; i++) { /* the socket is in step after the early end */
		ck_ok(str_fit(name, sizeof(name), "h%d", i));
		ck_assert_int_gt(find_link(nl, name).index, 0);
	}
}
END_TEST

struct seen_addr {
	uint32_t addr;
	unsigned prefix_len;
	int index;
};

static int see_addr(const struct link_addr *addr, void *arg)
{
	struct seen_addr *seen = arg;

	if (addr->addr == seen->addr) {
		seen->prefix_len = addr->prefix_len;
		seen->index = addr->index;
	}
	return 0;
}

static int see_route(const struct link_route *route, void *arg)
{
	struct seen_addr *seen = arg;

	if (route->dst == seen->addr) {
		seen->prefix_len = route->prefix_len;
		seen->index = route->index;
	}
	return 0;
}

START_TEST(test_link_addrs_and_routes)
{
	static const unsigned char mac[6] = { 2, 0, 0, 0, 0, 9 };
	struct seen_addr addr = { .addr = IP(203, 0, 113, 4) }, route = addr;
	auto_free char *neigh = NULL;
	auto_close int fd = -1, nl = -1, inner = -1;
	int index;

	world_enter();
	fd = world_netns("t-a");
	nl = netns_rtnl(-1);
	inner = netns_rtnl(fd);
	ck_ok(link_add_veth(nl, "h0", "up0", fd));
	ck_ok(link_add_addr(nl, "h0", IP(203, 0, 113, 4), 31));
	ck_assert_int_eq(link_add_addr(nl, "h0", IP(203, 0, 113, 4), 31), -EEXIST);
	ck_assert_int_eq(link_add_addr(nl, "none", IP(203, 0, 113, 4), 31), -ENODEV);
	ck_ok(link_set_up(nl, "h0"));
	ck_assert_int_eq(link_has_default_route(nl), 0);
	ck_assert_int_eq(link_add_default_route(nl, IP(198, 51, 100, 1)), -ENETUNREACH);
	ck_ok(link_add_default_route(nl, IP(203, 0, 113, 5)));
	ck_assert_int_eq(link_has_default_route(nl), 1);
	ck_assert_int_eq(link_has_default_route(inner), 0);
	index = find_link(nl, "h0").index;
	ck_ok(link_list_addrs(nl, see_addr, &addr));
	ck_assert_int_eq(addr.index, index);
	ck_assert_uint_eq(addr.prefix_len, 31);
	ck_ok(link_list_routes(nl, see_route, &route));
	ck_assert_int_eq(route.index, index);
	ck_assert_uint_eq(route.prefix_len, 31);
	ck_ok(link_add_neigh(nl, "h0", IP(203, 0, 113, 5), mac));
	neigh = world_run((const char *const[]){ "ip", "neigh", "show", NULL });
	ck_assert_ptr_nonnull(
		strstr(neigh, "203.0.113.5 dev h0 lladdr 02:00:00:00:00:09 PERMANENT"));
}
END_TEST

START_TEST(test_tap)
{
	static const unsigned char mac[6] = { 2, 0, 0, 0, 0, 7 };
	auto_free char *shown = NULL;
	auto_close int fd = -1, inner = -1, tap = -1;
	struct ifreq ifr = { 0 };

	world_enter();
	fd = world_netns("t-a");
	inner = netns_rtnl(fd);
	tap = netns_tap(fd, "tap0", mac);
	ck_ok(tap);
	ck_assert_int_eq(netns_tap(fd, "tap0", mac), -EBUSY);
	ck_assert_int_eq(fcntl(tap, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(ioctl(tap, TUNGETIFF, &ifr), 0);
	ck_assert_int_eq(ifr.ifr_flags & (IFF_TAP | IFF_NO_PI | IFF_VNET_HDR),
			 IFF_TAP | IFF_NO_PI | IFF_VNET_HDR);
	ck_ok(link_set_up(inner, "tap0"));
	ck_assert(find_link(inner, "tap0").up);
	shown = world_run((const char *const[]){ "ip", "-n", "t-a", "link", "show", "tap0", NULL });
	ck_assert_ptr_nonnull(strstr(shown, "link/ether 02:00:00:00:00:07"));
	ck_assert_uint_eq(if_nametoindex("tap0"), 0);
	fd_close(&tap);
	ck_assert_int_eq(link_set_up(inner, "tap0"), -ENODEV);
}
END_TEST

static int tracked(void)
{
	auto_buf text = BUF_INIT(64);

	ck_ok(file_read_at(AT_FDCWD, "/proc/sys/net/netfilter/nf_conntrack_count", &text));
	return (int)strtoul(buf_str(&text), NULL, 10);
}

static int connect_from(uint32_t from, uint32_t to)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(from) };
	struct sockaddr_in b = { .sin_family = AF_INET,
				 .sin_port = htons(7777),
				 .sin_addr.s_addr = htonl(to) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, (const struct sockaddr *)&a, sizeof(a)), 0);
	ck_assert_int_eq(connect(fd, (const struct sockaddr *)&b, sizeof(b)), 0);
	return fd;
}

START_TEST(test_conntrack_forget)
{
	static const uint32_t one = IP(203, 0, 113, 1), local = IP(127, 0, 0, 1);
	auto_close int nl = -1, listener = -1, begun = -1, taken = -1, other = -1;
	struct op op;

	world_enter();
	op_init(&op, patient_ms(10000), -1);
	ck_op(spawn_run((const char *const[]){ "nft", "-f", "-", NULL },
			"table ip t {\nchain c {\ntype filter hook input priority 0\n"
			"ct state new accept\n}\n}\n",
			NULL, &op),
	      &op);
	nl = netns_rtnl(-1);
	ck_ok(link_add_addr(nl, "lo", one, 32));
	listener = world_listen(-1, SOCK_STREAM, 0, 7777);
	begun = connect_from(one, local);
	other = connect_from(local, local);
	ck_assert_int_eq(tracked(), 2);
	ck_ok(conntrack_forget(IP(203, 0, 113, 9)));
	ck_assert_int_eq(tracked(), 2);
	ck_ok(conntrack_forget(one));
	ck_assert_int_eq(tracked(), 1);
	taken = connect_from(local, one);
	ck_assert_int_eq(tracked(), 2);
	ck_ok(conntrack_forget(one));
	ck_assert_int_eq(tracked(), 1);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("os_net");
	TCase *tc = tcase_create("os_net");
	SRunner *sr;
	int failed;

	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, test_netns_life);
	tcase_add_test(tc, test_netns_leftover_file);
	tcase_add_test(tc, test_netns_call);
	tcase_add_test(tc, test_netns_create_race);
	tcase_add_test(tc, test_link_life);
	tcase_add_test(tc, test_link_list_many);
	tcase_add_test(tc, test_link_addrs_and_routes);
	tcase_add_test(tc, test_tap);
	tcase_add_test(tc, test_conntrack_forget);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
