/* SPDX-License-Identifier: Apache-2.0 */
#include "http/forward.h"

#include "base/file.h"
#include "http/proxy.h"
#include "http_harness.h"
#include "os/link.h"
#include "os/netns.h"

#include <sched.h>

/*
 * Server 0 proxies to an address that refuses, with a detour over server 1, which forwards to the
 * client. One that asks for /forward forwards itself.
 */
static struct world world;
static struct proxy_group streams;
static struct forward_group forwards;
static struct sockaddr_in upstream_addr;
static struct sockaddr_in other_addr; /* of a socket that does not listen */
static int refusing_fd;
static size_t n_addrs;
static int forward_answer; /* in place of forwarding; 0 = none, -1 = a reset */
static int fail_code;
static int proxy_ends;

#define UPGRADE     "Connection: Upgrade\r\nUpgrade: tcp\r\n\r\n"
#define FORWARD     "GET /forward HTTP/1.1\r\nHost: a\r\n" UPGRADE
#define SWITCHED    "HTTP/1.1 101 Switching Protocols\r\n" UPGRADE
#define UP_GET      "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
#define GET         "GET / HTTP/1.1\r\nHost: a\r\n\r\n"
#define OK_LENGTH_2 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
#define REPLY_502   "HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\n"

static void on_fail(struct http_exchange *x, int code, void *arg)
{
	char text[16];

	(void)arg;
	fail_code = code;
	snprintf(text, sizeof(text), "%03d", code);
	http_reply(x, 502, NULL, NULL, text, strlen(text));
}

static void forward_handler(struct http_exchange *x, void *arg)
{
	struct forward_spec s = {
		.n_addrs = n_addrs,
		.group = &forwards,
		.protocol = "tcp",
		.on_fail = on_fail,
	};

	(void)arg;
	memcpy(&s.addrs[n_addrs - 1], &upstream_addr, sizeof(upstream_addr));
	if (n_addrs > 1)
		memcpy(&s.addrs[0], &other_addr, sizeof(other_addr));
	if (forward_answer > 0)
		http_reply(x, forward_answer, NULL, NULL, "ok", 2);
	else if (forward_answer < 0)
		http_exchange_abort(x);
	else
		forward_start(&world.loop, x, &s);
}

static void proxy_end(void *arg)
{
	(void)arg;
	proxy_ends++;
}

static void proxy_handler(struct http_exchange *x, void *arg)
{
	static const struct http_field ask[] = {
		{ "Host", "b" },
		{ "Connection", "Upgrade" },
		{ "Upgrade", "tcp" },
		{ NULL, NULL },
	};
	static struct proxy_detour detour;
	struct proxy_spec s = {
		.addr = other_addr,
		.detour = &detour,
		.group = &streams,
		.on_fail = on_fail,
		.on_done = proxy_end,
	};

	detour = (struct proxy_detour){ world.tcp_addr[1], "/forward", ask };
	if (str_starts(http_exchange_head(x)->path, "/forward"))
		forward_handler(x, arg);
	else
		proxy_start(&world.loop, x, &s);
}

static const struct http_server_config proxying = { .handler = proxy_handler };
static const struct http_server_config forwarding = { .handler = forward_handler };

static void setup(void)
{
	socklen_t len = sizeof(other_addr);

	world_init(&world);
	world_serve(&world, &proxying);
	world_serve(&world, &forwarding);
	n_addrs = 1;
	other_addr = (struct sockaddr_in){ .sin_family = AF_INET };
	other_addr.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	refusing_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(refusing_fd, (struct sockaddr *)&other_addr, len), 0);
	ck_assert_int_eq(getsockname(refusing_fd, (struct sockaddr *)&other_addr, &len), 0);
}

static void run(void (*client)(struct world *w))
{
	world_run(&world, client);
	ck_assert_uint_eq(streams.n + forwards.n, 0);
	ck_assert_ptr_null(streams.first);
	ck_assert_ptr_null(forwards.first);
	fd_close(&refusing_fd);
}

static int pick_up(int listening)
{
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void detour_client(struct world *w)
{
	auto_close int listening = listen_tcp(&upstream_addr, 16);
	auto_close int fd = dial_unix(&w->unix_addr);
	auto_close int up = -1;

	/* one connection of the client, a new one of the server for each */
	for (int i = 0; i < 3; i++) {
		say(fd, GET);
		up = pick_up(listening);
		hear(up, UP_GET);
		say(up, OK_LENGTH_2);
		hear(fd, OK_LENGTH_2);
		hear_eof(up);
		fd_close(&up);
	}
	say(fd, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	up = pick_up(listening);
	hear(up, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
		 "Connection: close\r\n\r\n3\r\nabc\r\n");
	say(fd, "1\r\nd\r\n0\r\n\r\n");
	hear(up, "1\r\nd\r\n0\r\n\r\n");
	say(up, "HTTP/1.1 103 Early Hints\r\n\r\n" OK_LENGTH_2);
	hear(fd, OK_LENGTH_2);
}

START_TEST(detour)
{
	n_addrs = 2; /* the first refuses */
	run(detour_client);
	ck_assert_int_eq(proxy_ends, 4);
	ck_assert_int_eq(fail_code, 0);
}
END_TEST

static void upgrade_client(struct world *w)
{
	auto_close int listening = listen_tcp(&upstream_addr, 16);
	auto_close int fd = dial_unix(&w->unix_addr);
	auto_close int up = -1;
	size_t big = 192 << 20; /* twice what the sockets on the way may hold (tcp_rmem) */
	size_t sent;

	say(fd, "GET / HTTP/1.1\r\nHost: a\r\n" UPGRADE "early");
	up = pick_up(listening);
	hear(up, "GET / HTTP/1.1\r\nHost: a\r\n" UPGRADE);
	say(up, SWITCHED "soon");
	hear(fd, SWITCHED "soon");
	hear(up, "early");
	sent = say_until_stalled(fd, big);
	ck_assert_uint_lt(sent, big / 2);
	pump(fd, up, sent, sent + (1 << 20));
	sent = say_until_stalled(up, big);
	ck_assert_uint_lt(sent, big / 2);
	pump(up, fd, sent, sent + (1 << 20));
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	hear_eof(up);
	say(up, "still");
	hear(fd, "still");
	fd_close(&up);
	hear_eof(fd);
}

START_TEST(upgrade_over_the_detour)
{
	run(upgrade_client);
	ck_assert_int_eq(proxy_ends, 1);
}
END_TEST

static void refused_client(struct world *w)
{
	auto_close int fd = dial_unix(&w->unix_addr);

	upstream_addr = other_addr;
	say(fd, GET);
	hear(fd, REPLY_502 "111");
	say(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
	hear(fd, REPLY_502 "111");
	forward_answer = 404; /* who knows no such way */
	say(fd, GET);
	hear(fd, REPLY_502 "111");
	forward_answer = 200;
	say(fd, GET);
	hear(fd, REPLY_502 "111");
	forward_answer = -1;
	say(fd, GET);
	hear(fd, REPLY_502 "111");
	forward_answer = 503;
	say(fd, GET);
	hear(fd, REPLY_502 "016");
}

START_TEST(detour_that_leads_nowhere)
{
	run(refused_client);
	ck_assert_int_eq(proxy_ends, 6);
	ck_assert_int_eq(fail_code, EBUSY);
}
END_TEST

static void resets_client(struct world *w)
{
	auto_close int listening = listen_tcp(&upstream_addr, 16);
	auto_close int fd = dial_unix(&w->unix_addr);
	auto_close int up = -1;

	say(fd, GET);
	up = pick_up(listening);
	hear(up, UP_GET);
	fd_close(&fd);
	hear_reset(up); /* the client vanished */
	fd_close(&up);

	fd = dial_unix(&w->unix_addr);
	say(fd, GET);
	up = pick_up(listening);
	hear(up, UP_GET);
	fd_close(&up); /* the server hangs up: no longer that nobody listens */
	hear(fd, REPLY_502 "104");
}

START_TEST(resets_go_through)
{
	run(resets_client);
	ck_assert_int_eq(fail_code, ECONNRESET);
}
END_TEST

static void cut(struct world *w)
{
	if (forwards.n < 2) { /* the second is on its way */
		uv_async_send(&w->call);
		return;
	}
	forward_abort_all(&forwards);
	ck_assert_uint_eq(forwards.n, 0);
}

static void cut_client(struct world *w)
{
	auto_close int listening = listen_tcp(&upstream_addr, 0);
	auto_close int fd = dial_tcp(&w->tcp_addr[1]);
	auto_close int filler = -1;
	auto_close int waiting = -1;
	auto_close int up = -1;

	say(fd, FORWARD);
	hear(fd, SWITCHED);
	up = pick_up(listening);
	filler = dial_tcp(&upstream_addr);
	waiting = dial_tcp(&w->tcp_addr[1]);
	say(waiting, FORWARD);
	w->called = cut;
	uv_async_send(&w->call);
	hear_reset(fd);
	hear_reset(up);
	hear_reset(waiting);
}

START_TEST(abort_all)
{
	run(cut_client);
}
END_TEST

static void leave_client(struct world *w)
{
	auto_close int listening = listen_tcp(&upstream_addr, 0);
	auto_close int filler = dial_tcp(&upstream_addr);
	auto_close int fd = dial_unix(&w->unix_addr);

	(void)listening;
	(void)filler;
	say(fd, FORWARD);
}

/* Left while it connects: what the end of the loop finds, run() counts. */
START_TEST(client_leaves)
{
	run(leave_client);
}
END_TEST

static void self_client(struct world *w)
{
	static const char port_range[] = "/proc/sys/net/ipv4/ip_local_port_range";
	auto_close int fd = dial_unix(&w->unix_addr);

	upstream_addr = other_addr;
	upstream_addr.sin_port = htons(20000);
	/* the kernel has no other port to connect from */
	ck_assert_int_eq(file_write_at(AT_FDCWD, port_range, "20000 20000"), 0);
	say(fd, FORWARD);
	hear(fd, REPLY_502 "111");
}

START_TEST(a_connection_to_itself_is_refused)
{
	run(self_client);
}
END_TEST

static void setup_alone(void)
{
	auto_close int nl = -1;

	ck_assert_msg(unshare(CLONE_NEWNET) == 0, "needs root for a namespace");
	nl = netns_rtnl(-1);
	ck_assert_int_ge(nl, 0);
	ck_assert_int_eq(link_set_up(nl, "lo"), 0);
	setup();
}

int main(void)
{
	Suite *s = suite_create("http_forward");
	TCase *t = tcase_create("all");
	TCase *alone = tcase_create("alone");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, detour);
	tcase_add_test(t, upgrade_over_the_detour);
	tcase_add_test(t, detour_that_leads_nowhere);
	tcase_add_test(t, resets_go_through);
	tcase_add_test(t, abort_all);
	tcase_add_test(t, client_leaves);
	suite_add_tcase(s, t);
	tcase_set_timeout(alone, 60);
	tcase_add_checked_fixture(alone, setup_alone, NULL);
	tcase_add_test(alone, a_connection_to_itself_is_refused);
	suite_add_tcase(s, alone);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
