/* SPDX-License-Identifier: Apache-2.0 */
/* Long bodies and tunnels, which go through pipes: what test_http_proxy.c asks of short ones. */
#include "http/splice.h"

#include "http/proxy.h"
#include "http/server-internal.h"
#include "http_harness.h"

#include <dirent.h>
#include <sys/resource.h>

/* Server 0 proxies to the client, which is the upstream, too. */
static struct world world;
static struct proxy_group group;
static struct sockaddr_in upstream_addr;
static struct http_server_config proxying;
static int done;
static int fails;
static unsigned pipes_max; /* at the end of a stream */
static size_t n_fds;

enum { LONG_BYTES = 4 << 20 };

static void on_fail(struct http_exchange *x, int code, void *arg)
{
	(void)code;
	(void)arg;
	fails++;
	http_reply(x, 502, NULL, NULL, "gone", 4);
}

static void on_done(void *arg)
{
	const struct splice_pool *pipes = &world.servers[0]->rbuf->pipes;

	(void)arg;
	done++;
	pipes_max = MAX(pipes_max, pipes->n_idle + pipes->n_used);
}

static void proxy_handler(struct http_exchange *x, void *arg)
{
	const struct proxy_spec spec = {
		.addr = upstream_addr,
		.group = &group,
		.on_fail = on_fail,
		.on_done = on_done,
	};

	(void)arg;
	proxy_start(&world.loop, x, &spec);
}

static size_t count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	size_t n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

static void setup(void)
{
	uv_loop_t first; /* it leaves what is for all loops */

	ck_assert_int_eq(uv_loop_init(&first), 0);
	ck_assert_int_eq(uv_loop_close(&first), 0);
	n_fds = count_fds();
	proxying = (struct http_server_config){ .handler = proxy_handler };
	world_init(&world);
}

static void run(void (*client)(struct world *w))
{
	world_serve(&world, &proxying);
	world_run(&world, client);
	ck_assert_uint_eq(group.n, 0);
	ck_assert_uint_eq(count_fds(), n_fds);
}

/* What a client has of a stream: its own end, and that of the upstream. */
struct ends {
	int fd;
	int up;
};

static int be_upstream(void)
{
	int fd = listen_tcp(&upstream_addr, 64);
	int small = 65536;

	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	return fd;
}

static void ends_close(struct ends *e)
{
	fd_close(&e->fd);
	fd_close(&e->up);
}

#define UPGRADE "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"
#define NO_BODY "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
#define UP_GET  "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

static void pick_up(struct ends *e, int listening)
{
	fd_close(&e->up);
	e->up = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	ck_assert_int_ge(e->up, 0);
}

/* A response up to its body of @n bytes. */
static void begin_down(struct ends *e, int listening, size_t n)
{
	char head[128];

	say(e->fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	pick_up(e, listening);
	hear(e->up, UP_GET);
	snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", n);
	say(e->up, head);
	hear(e->fd, head);
}

/* A request up to its body of @n bytes. */
static void begin_up(struct ends *e, int listening, size_t n)
{
	char head[128];

	snprintf(head, sizeof(head), "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n",
		 n);
	say(e->fd, head);
	pick_up(e, listening);
	snprintf(head, sizeof(head),
		 "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
		 n);
	hear(e->up, head);
}

static void begin_tunnel(struct ends *e, int listening)
{
	say(e->fd, "GET / HTTP/1.1\r\nHost: a\r\n" UPGRADE);
	pick_up(e, listening);
	hear(e->up, "GET / HTTP/1.1\r\nHost: a\r\n" UPGRADE);
	say(e->up, "HTTP/1.1 101 Yes\r\n" UPGRADE);
	hear(e->fd, "HTTP/1.1 101 Switching Protocols\r\n" UPGRADE);
}

static const size_t sizes[] = {
	1,
	HTTP_SPLICE_MIN - 1,
	HTTP_SPLICE_MIN,
	HTTP_SPLICE_MIN + 1,
	HTTP_SPLICE_MIN + HTTP_READ_BYTES,
	SPLICE_PIPE_BYTES - 1,
	SPLICE_PIPE_BYTES,
	SPLICE_PIPE_BYTES + HTTP_SPLICE_MIN,
	LONG_BYTES + 17,
};

static void all_sizes(struct ends *e, int listening)
{
	for (size_t i = 0; i < ARRAY_SIZE(sizes); i++) {
		begin_down(e, listening, sizes[i]);
		pump(e->up, e->fd, 0, sizes[i]);
		hear_eof(e->up);
		begin_up(e, listening, sizes[i]);
		pump(e->fd, e->up, 0, sizes[i]);
		say(e->up, NO_BODY);
		hear(e->fd, NO_BODY);
	}
}

/* One connection of the client's for all of them. */
static void sizes_client(struct world *w)
{
	auto_close int listening = be_upstream();
	struct ends e = { .fd = dial_unix(&w->unix_addr), .up = -1 };

	all_sizes(&e, listening);
	ends_close(&e);
	e.fd = dial_tcp(&w->tcp_addr[0]);
	all_sizes(&e, listening);
	ends_close(&e);
}

START_TEST(sizes_on_one_connection)
{
	run(sizes_client);
	ck_assert_int_eq(done, 4 * (int)ARRAY_SIZE(sizes));
	ck_assert_uint_ge(pipes_max, 1);
}
END_TEST

static void short_client(struct world *w)
{
	auto_close int listening = be_upstream();
	struct ends e = { .fd = dial_unix(&w->unix_addr), .up = -1 };

	begin_down(&e, listening, HTTP_SPLICE_MIN - 1);
	pump(e.up, e.fd, 0, HTTP_SPLICE_MIN - 1);
	begin_up(&e, listening, HTTP_SPLICE_MIN - 1);
	pump(e.fd, e.up, 0, HTTP_SPLICE_MIN - 1);
	say(e.up, NO_BODY);
	hear(e.fd, NO_BODY);
	ends_close(&e);
}

START_TEST(short_ones_take_no_pipe)
{
	run(short_client);
	ck_assert_int_eq(done, 2);
	ck_assert_uint_eq(pipes_max, 0);
}
END_TEST

/* What follows a body is not of it, although it is in the socket already. */
static void behind_client(struct world *w)
{
	auto_close int listening = be_upstream();
	struct ends e = { .fd = dial_tcp(&w->tcp_addr[0]), .up = -1 };

	begin_up(&e, listening, HTTP_SPLICE_MIN);
	ck_assert_uint_eq(say_until_stalled(e.fd, HTTP_SPLICE_MIN), HTTP_SPLICE_MIN);
	say(e.fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	pump(-1, e.up, HTTP_SPLICE_MIN, HTTP_SPLICE_MIN);
	say(e.up, NO_BODY);
	hear(e.fd, NO_BODY);
	hear_eof(e.up);
	pick_up(&e, listening);
	hear(e.up, UP_GET);
	say(e.up, NO_BODY);
	hear(e.fd, NO_BODY);

	begin_down(&e, listening, HTTP_SPLICE_MIN);
	ck_assert_uint_eq(say_until_stalled(e.up, HTTP_SPLICE_MIN), HTTP_SPLICE_MIN);
	ck_assert_int_ge(send(e.up, "junk", 4, MSG_NOSIGNAL), -1);
	pump(-1, e.fd, HTTP_SPLICE_MIN, HTTP_SPLICE_MIN);
	begin_down(&e, listening, 1);
	ends_close(&e);
}

START_TEST(bytes_behind_a_body)
{
	run(behind_client);
	ck_assert_int_eq(done, 4);
	ck_assert_uint_ge(pipes_max, 1);
}
END_TEST

/* A piece must not wait for the next one, be it small. */
static void trickle(int to, int from)
{
	enum { PIECE_BYTES = 1000, PIECES = 50 };

	for (size_t at = 0; at < PIECES * PIECE_BYTES;) {
		struct pollfd p = { .fd = from, .events = POLLIN };
		size_t end = say_pattern(to, at, at + PIECE_BYTES);

		ck_assert_uint_eq(end, at + PIECE_BYTES);
		for (; at < end; at = hear_pattern(from, at))
			ck_assert_int_eq(poll(&p, 1, 30000), 1);
	}
}

static void trickle_client(struct world *w)
{
	auto_close int listening = be_upstream();
	struct ends e = { .fd = dial_tcp(&w->tcp_addr[0]), .up = -1 };

	begin_down(&e, listening, LONG_BYTES);
	trickle(e.up, e.fd);
	ends_close(&e);
	e.fd = dial_tcp(&w->tcp_addr[0]);
	begin_up(&e, listening, LONG_BYTES);
	trickle(e.fd, e.up);
	ends_close(&e);
}

START_TEST(slow_writers)
{
	run(trickle_client);
	ck_assert_uint_ge(pipes_max, 1);
}
END_TEST

/* As far as it goes: both sockets and a pipe are full. */
static void stall(int to)
{
	ck_assert_uint_gt(say_until_stalled(to, 4 * LONG_BYTES), HTTP_SPLICE_MIN);
}

static void vanish_client(struct world *w)
{
	auto_close int listening = be_upstream();
	struct ends e = { .fd = dial_unix(&w->unix_addr), .up = -1 };

	/* the reader, and the writer, of a response */
	begin_down(&e, listening, 4 * LONG_BYTES);
	stall(e.up);
	fd_close(&e.fd);
	hear_reset(e.up);
	fd_close(&e.up);
	e.fd = dial_tcp(&w->tcp_addr[0]);
	begin_down(&e, listening, 4 * LONG_BYTES);
	pump(e.up, e.fd, 0, LONG_BYTES);
	fd_close(&e.up);
	hear_reset(e.fd);
	fd_close(&e.fd);

	/* and of a request */
	e.fd = dial_tcp(&w->tcp_addr[0]);
	begin_up(&e, listening, 4 * LONG_BYTES);
	pump(e.fd, e.up, 0, LONG_BYTES);
	fd_close(&e.fd);
	hear_reset(e.up);
	fd_close(&e.up);
	e.fd = dial_unix(&w->unix_addr);
	begin_up(&e, listening, 4 * LONG_BYTES);
	stall(e.fd);
	fd_close(&e.up);
	hear(e.fd, "HTTP/1.1 502 Bad Gateway\r\n");
	ends_close(&e);
}

START_TEST(either_side_vanishes)
{
	run(vanish_client);
	ck_assert_int_eq(done, 4);
	ck_assert_int_eq(fails, 1);
	ck_assert_uint_ge(pipes_max, 1);
}
END_TEST

/* The writer of a body goes while its reader has not taken all that it sent. */
static void early_end_client(struct world *w)
{
	auto_close int listening = be_upstream();
	struct ends e = { .fd = dial_unix(&w->unix_addr), .up = -1 };

	begin_up(&e, listening, LONG_BYTES);
	pump(e.fd, e.up, 0, LONG_BYTES / 2);
	say(e.up, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno");
	hear(e.fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n");
	fd_close(&e.up);
	ends_close(&e);

	/* half of the connection is no whole request */
	e.fd = dial_tcp(&w->tcp_addr[0]);
	begin_up(&e, listening, LONG_BYTES);
	pump(e.fd, e.up, 0, LONG_BYTES / 2);
	ck_assert_int_eq(shutdown(e.fd, SHUT_WR), 0);
	hear_reset(e.up);
	hear_reset(e.fd);
	ends_close(&e);
}

START_TEST(early_answer_and_half_a_request)
{
	run(early_end_client);
	ck_assert_int_eq(done, 2);
	ck_assert_int_eq(fails, 0);
}
END_TEST

static void abort_group(struct world *w)
{
	(void)w;
	ck_assert_uint_eq(group.n, 3);
	ck_assert_uint_ge(world.servers[0]->rbuf->pipes.n_used, 2);
	proxy_abort_all(&group, 0);
}

static void abort_client(struct world *w)
{
	auto_close int listening = be_upstream();
	struct ends e[3];

	for (int i = 0; i < 3; i++)
		e[i] = (struct ends){ .fd = dial_tcp(&w->tcp_addr[0]), .up = -1 };
	begin_down(&e[0], listening, 8 * LONG_BYTES);
	begin_up(&e[1], listening, 8 * LONG_BYTES);
	begin_tunnel(&e[2], listening);
	stall(e[0].up);
	stall(e[1].fd);
	stall(e[2].fd);
	uv_async_send(&w->call);
	for (int i = 0; i < 3; i++) {
		hear_reset(e[i].fd);
		hear_reset(e[i].up);
		ends_close(&e[i]);
	}
}

START_TEST(abort_with_full_pipes)
{
	world.called = abort_group;
	run(abort_client);
	ck_assert_int_eq(done, 3);
}
END_TEST

static void deaf_client(struct world *w)
{
	auto_close int listening = be_upstream();
	struct ends e = { .fd = dial_unix(&w->unix_addr), .up = -1 };

	begin_down(&e, listening, 4 * LONG_BYTES);
	stall(e.up);
	hear_reset(e.up);
	ends_close(&e);
}

START_TEST(deaf_reader_is_reset)
{
	proxying.write_timeout_ms = 500;
	run(deaf_client);
	ck_assert_int_eq(done, 1);
}
END_TEST

/* Sends and hears at both ends of a tunnel. */
static void both_ways(const struct ends *e, size_t n)
{
	size_t said[2] = { 0 };
	size_t heard[2] = { 0 };
	const int fds[2] = { e->fd, e->up };

	while (heard[0] < n || heard[1] < n) {
		struct pollfd p[2];

		for (int i = 0; i < 2; i++) {
			short want = said[i] < n ? POLLIN | POLLOUT : POLLIN;

			p[i] = (struct pollfd){ .fd = fds[i], .events = want };
		}
		ck_assert_int_gt(poll(p, 2, 30000), 0);
		for (int i = 0; i < 2; i++) {
			if (p[i].revents & POLLIN)
				heard[i] = hear_pattern(fds[i], heard[i]);
			if (p[i].revents & POLLOUT)
				said[i] = say_pattern(fds[i], said[i], n);
		}
	}
}

static void tunnel_client(struct world *w)
{
	auto_close int listening = be_upstream();
	struct ends e = { .fd = dial_unix(&w->unix_addr), .up = -1 };
	size_t sent;

	begin_tunnel(&e, listening);
	both_ways(&e, LONG_BYTES);
	/* an end behind bytes that wait in a pipe */
	sent = say_until_stalled(e.fd, 4 * LONG_BYTES);
	ck_assert_int_eq(shutdown(e.fd, SHUT_WR), 0);
	pump(-1, e.up, sent, sent);
	hear_eof(e.up);
	sent = say_until_stalled(e.up, 4 * LONG_BYTES);
	fd_close(&e.up);
	pump(-1, e.fd, sent, sent);
	hear_eof(e.fd);
	ends_close(&e);
}

START_TEST(tunnel_both_ways)
{
	run(tunnel_client);
	ck_assert_int_eq(done, 1);
	ck_assert_uint_ge(pipes_max, 1);
}
END_TEST

/* Without descriptors there is no pipe. */
static void poor_client(struct world *w)
{
	auto_close int listening = be_upstream();
	struct ends e = { .fd = dial_unix(&w->unix_addr), .up = -1 };
	struct rlimit limit;
	rlim_t before;

	begin_down(&e, listening, LONG_BYTES);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	before = limit.rlim_cur;
	limit.rlim_cur = 3;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	pump(e.up, e.fd, 0, LONG_BYTES);
	limit.rlim_cur = before;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	ends_close(&e);
}

START_TEST(no_descriptors_left)
{
	run(poor_client);
	ck_assert_int_eq(done, 1);
	ck_assert_uint_eq(pipes_max, 0);
}
END_TEST

enum { MANY = SPLICE_PIPES_MAX + 4, MANY_BYTES = 3 << 20 };

/* More readers that stand still than pipes; all of them get theirs in the end. */
static void many_client(struct world *w)
{
	auto_close int listening = be_upstream();
	size_t sent[MANY];
	struct ends e[MANY];

	for (size_t i = 0; i < MANY; i++) {
		e[i] = (struct ends){ .fd = dial_unix(&w->unix_addr), .up = -1 };
		begin_down(&e[i], listening, MANY_BYTES);
		sent[i] = say_until_stalled(e[i].up, MANY_BYTES);
	}
	for (size_t i = 0; i < MANY; i++) {
		pump(e[i].up, e[i].fd, sent[i], MANY_BYTES);
		ends_close(&e[i]);
	}
}

START_TEST(more_than_there_are_pipes)
{
	run(many_client);
	ck_assert_int_eq(done, MANY);
	ck_assert_uint_le(pipes_max, SPLICE_PIPES_MAX);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_splice");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 120);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, sizes_on_one_connection);
	tcase_add_test(t, short_ones_take_no_pipe);
	tcase_add_test(t, bytes_behind_a_body);
	tcase_add_test(t, slow_writers);
	tcase_add_test(t, either_side_vanishes);
	tcase_add_test(t, early_answer_and_half_a_request);
	tcase_add_test(t, abort_with_full_pipes);
	tcase_add_test(t, deaf_reader_is_reset);
	tcase_add_test(t, tunnel_both_ways);
	tcase_add_test(t, no_descriptors_left);
	tcase_add_test(t, more_than_there_are_pipes);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
