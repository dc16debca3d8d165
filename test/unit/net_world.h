/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A network of its own for a test: the test's process gets new mount and network namespaces (of
 * which it is the "host"), so that neither packets nor names reach the machine it runs on.
 */
#pragma once

#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "net/net.h"
#include "os/link.h"
#include "os/netns.h"
#include "os/spawn.h"
#include "patience.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#define IP(a, b, c, d)                                                                             \
	((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

#define ck_ok(call)                                                                                \
	do {                                                                                       \
		int ck_r_ = (call);                                                                \
		ck_assert_msg(ck_r_ >= 0, "%s: %s", #call, strerror(-ck_r_));                      \
	} while (0)

#define ck_op(call, op)                                                                            \
	do {                                                                                       \
		int ck_r_ = (call);                                                                \
		ck_assert_msg(ck_r_ >= 0, "%s: %d: %s", #call, ck_r_, (op)->err.msg);              \
	} while (0)

static inline void world_enter(void)
{
	auto_close int nl = -1;

	ck_assert_msg(geteuid() == 0, "needs root for namespaces");
	ck_assert_int_eq(unshare(CLONE_NEWNS | CLONE_NEWNET), 0);
	ck_assert_int_eq(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	ck_assert_int_eq(mount("none", "/run", "tmpfs", 0, NULL), 0);
	nl = netns_rtnl(-1);
	ck_ok(nl);
	ck_ok(link_set_up(nl, "lo"));
	/* A new namespace begins with the setting of the host's. */
	ck_ok(file_write_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", "0"));
}

static inline void world_write(const char *path, const char *text)
{
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	ck_ok(fd_write_all(fd, text, strlen(text)));
}

/* What the host's resolver is, for this test. */
static inline void world_resolver(const char *text)
{
	world_write("/run/resolv.conf", text);
	ck_assert_int_eq(mount("/run/resolv.conf", "/etc/resolv.conf", NULL, MS_BIND, NULL), 0);
}

/* A new namespace, open. */
static inline int world_netns(const char *name)
{
	struct err e = { 0 };
	int fd;

	ck_assert_msg(netns_create(name, &e) == 0, "%s", e.msg);
	fd = netns_open(name);
	ck_ok(fd);
	return fd;
}

struct world_socket {
	int type;
	uint32_t addr;
	int port;
};

static inline int world_bind(void *arg)
{
	const struct world_socket *s = arg;
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons((uint16_t)s->port),
				   .sin_addr.s_addr = htonl(s->addr) };
	int fd = socket(AF_INET, s->type | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (const struct sockaddr *)&sin, sizeof(sin)) < 0)
		return -errno;
	return s->type == SOCK_STREAM && listen(fd, 8) < 0 ? -errno : fd;
}

/* A bound (and listening) socket in a namespace (-1 = the host), on an address (0 = all). */
static inline int world_listen(int netns_fd, int type, uint32_t addr, int port)
{
	struct world_socket s = { .type = type, .addr = addr, .port = port };
	int fd = netns_fd < 0 ? world_bind(&s) : netns_call(netns_fd, world_bind, &s);

	ck_ok(fd);
	return fd;
}

static inline int world_open(void *arg)
{
	const int *type = arg;
	int fd = socket(AF_INET, *type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	return fd < 0 ? -errno : fd;
}

/* A socket in a namespace, on its way to a peer. */
static inline int world_dial(int netns_fd, int type, uint32_t addr, int port)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
				   .sin_port = htons((uint16_t)port),
				   .sin_addr.s_addr = htonl(addr) };
	int fd = netns_fd < 0 ? world_open(&type) : netns_call(netns_fd, world_open, &type);

	ck_ok(fd);
	if (connect(fd, (const struct sockaddr *)&sin, sizeof(sin)) < 0)
		ck_assert_msg(errno == EINPROGRESS || errno == ENETUNREACH || errno == EACCES,
			      "connect: %s", strerror(errno));
	return fd;
}

/* Whether a dialled TCP socket got through. */
static inline bool world_reached(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);

	if (poll(&p, 1, timeout_ms) != 1)
		return false;
	return getpeername(fd, (struct sockaddr *)&peer, &len) == 0;
}

static inline bool world_tcp(int netns_fd, uint32_t addr, int port)
{
	auto_close int fd = world_dial(netns_fd, SOCK_STREAM, addr, port);

	return world_reached(fd, 3000);
}

static inline bool world_readable(int fd, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, timeout_ms) == 1;
}

/* What a program prints. The caller frees. */
static inline char *world_run(const char *const *argv)
{
	auto_buf out = BUF_INIT(1 << 20);
	struct op op;

	op_init(&op, patient_ms(20000), -1);
	ck_op(spawn_run(argv, NULL, &out, &op), &op);
	return str_dup(buf_str(&out));
}

/* All kernel objects that a slot could leave. The caller frees. */
static inline char *world_inventory(void)
{
	auto_free char *links = world_run((const char *const[]){ "ip", "-j", "link", NULL });
	auto_free char *netns = world_run((const char *const[]){ "ip", "netns", NULL });
	auto_free char *rules = world_run((const char *const[]){ "nft", "list", "ruleset", NULL });
	auto_free char *addrs = world_run((const char *const[]){ "ip", "-j", "addr", NULL });
	auto_free char *routes = world_run((const char *const[]){ "ip", "-j", "route", NULL });

	return str_printf("%s%s%s%s%s", links, netns, rules, addrs, routes);
}

static inline struct net_config config_of(const char *tag, uint32_t hint)
{
	struct net_config config = { .range_addr = IP(10, 11, 0, 0),
				     .range_prefix = 16,
				     .block_hint = hint };

	ck_ok(tag_parse(tag, &config.tag));
	return config;
}

static inline struct net *open_net(const char *tag, uint32_t hint)
{
	struct net_config config = config_of(tag, hint);
	struct net *net = NULL;
	struct err e = { 0 };

	ck_assert_msg(net_open(&config, &net, &e) == 0, "%s", e.msg);
	return net;
}

static inline struct op test_op(void)
{
	struct op op;

	op_init(&op, patient_ms(20000), -1);
	return op;
}

static inline struct net_slot acquire(struct net *net, const struct sandbox_id *id)
{
	struct net_slot slot = NET_SLOT_INIT;
	struct op op = test_op();

	ck_op(net_slot_acquire(net, id, &slot, &op), &op);
	return slot;
}

static inline void release(struct net *net, const struct sandbox_id *id)
{
	struct op op = test_op();

	ck_op(net_slot_release(net, id, &op), &op);
}

static inline uint32_t addr_of(const struct net_slot *slot)
{
	return ntohl(slot->addr.s_addr);
}

/* Fails at the first line that is not the same. */
static inline void assert_same(const char *before, const char *after)
{
	size_t i = 0, line = 0;

	for (; before[i] == after[i] && before[i] != '\0'; i++)
		if (before[i] == '\n' || before[i] == '{')
			line = i;
	ck_assert_msg(before[i] == after[i], "was: %.600s\nis: %.600s", before + line,
		      after + line);
}
