/* SPDX-License-Identifier: Apache-2.0 */
/* The client against servers that listen: threads of the test, or nobody. */
#include "base/fd.h"
#include "base/str.h"
#include "http/client.h"
#include "patience.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <unistd.h>

enum { BODY_MAX = 16 << 20, BIG_BYTES = 4 << 20, SHORT_MS = 50 };

static struct op op;
static struct http_client client;
static struct buf reply;

static void setup(void)
{
	client = (struct http_client)HTTP_CLIENT_INIT;
	reply = (struct buf)BUF_INIT(BODY_MAX);
	op_init(&op, patient_ms(10000), -1);
}

static void teardown(void)
{
	http_client_done(&client);
	buf_done(&reply);
}

static int post(const char *body, size_t n)
{
	return http_client_call(&client, "POST", "/", NULL, body, n, &reply, &op);
}

static int listen_unix(struct sockaddr_un *addr, int backlog)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	*addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	ck_assert_int_eq(str_fit(addr->sun_path, sizeof(addr->sun_path),
				 "/tmp/test_http_client.%d.sock", getpid()),
			 0);
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)addr, sizeof(*addr)), 0);
	ck_assert_int_eq(listen(fd, backlog), 0);
	return fd;
}

static int listen_tcp(struct sockaddr_in *addr, int backlog)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*addr);

	*addr = (struct sockaddr_in){ .sin_family = AF_INET };
	addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(bind(fd, (const struct sockaddr *)addr, sizeof(*addr)), 0);
	ck_assert_int_eq(listen(fd, backlog), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)addr, &len), 0);
	return fd;
}

/* A server of one connection. */
struct server {
	int fd;
	size_t body;       /* bytes of the request's body to read */
	const char *reply; /* sent then, followed by the body that was read */
	struct buf got;
};

static void *serve(void *arg)
{
	struct server *s = arg;
	auto_close int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC);
	const char *end = NULL;
	size_t want = SIZE_MAX;
	char *room;

	ck_assert_int_ge(fd, 0);
	buf_init(&s->got, BODY_MAX);
	while (s->got.len < want) {
		ssize_t n;

		ck_assert_int_eq(buf_reserve(&s->got, 65536, &room), 0);
		n = read(fd, room, 65536);
		ck_assert_int_gt(n, 0);
		buf_commit(&s->got, (size_t)n);
		end = strstr(buf_str(&s->got), "\r\n\r\n");
		if (end != NULL)
			want = (size_t)(end + 4 - buf_head(&s->got)) + s->body;
	}
	ck_assert_int_eq(fd_write_all(fd, s->reply, strlen(s->reply)), 0);
	if (s->body > 0)
		ck_assert_int_eq(fd_write_all(fd, end + 4, s->body), 0);
	return NULL;
}

/* More than any socket's buffer, both ways. */
START_TEST(test_large_tcp)
{
	struct server s = { .body = BIG_BYTES };
	auto_free char *body = xcalloc(1, BIG_BYTES);
	auto_free char *head =
		str_printf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BIG_BYTES);
	auto_free char *host = NULL;
	struct sockaddr_in addr;
	pthread_t thread;

	for (size_t i = 0; i < BIG_BYTES; i++)
		body[i] = (char)(i * 31 >> 3);
	s.reply = head;
	s.fd = listen_tcp(&addr, 1);
	host = str_printf("Host: 127.0.0.1:%d\r\n", ntohs(addr.sin_port));
	ck_assert_int_eq(pthread_create(&thread, NULL, serve, &s), 0);
	ck_assert_int_eq(
		http_client_connect(&client, (const struct sockaddr *)&addr, sizeof(addr), -1, &op),
		0);
	ck_assert(client.reusable);
	ck_assert_int_eq(http_client_call(&client, "POST", "/", NULL, body, BIG_BYTES, &reply, &op),
			 200);
	pthread_join(thread, NULL);
	ck_assert_ptr_nonnull(strstr(buf_str(&s.got), host));
	ck_assert_uint_eq(reply.len, BIG_BYTES);
	ck_assert_mem_eq(buf_head(&reply), body, BIG_BYTES);
	buf_done(&s.got);
	fd_close(&s.fd);
}
END_TEST

/* A server that refuses a body without reading it, and hangs up: its answer counts. */
START_TEST(test_answer_before_body)
{
	struct server s = { .reply = "HTTP/1.1 413 x\r\nContent-Length: 5\r\n\r\nlarge" };
	auto_free char *body = xcalloc(1, BIG_BYTES);
	struct sockaddr_un addr;
	pthread_t thread;

	s.fd = listen_unix(&addr, 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, serve, &s), 0);
	http_client_done(&client);
	ck_assert_int_eq(http_client_connect_unix(&client, addr.sun_path, &op), 0);
	ck_assert_int_eq(http_client_call(&client, "POST", "/", NULL, body, BIG_BYTES, &reply, &op),
			 413);
	ck_assert_str_eq(buf_str(&reply), "large");
	pthread_join(thread, NULL);
	buf_done(&s.got);
	fd_close(&s.fd);
	unlink(addr.sun_path);
}
END_TEST

START_TEST(test_connect_fails)
{
	auto_free char *long_path = str_printf("/%0200d", 0);
	struct sockaddr_in addr;
	int fd = listen_tcp(&addr, 1);

	fd_close(&fd);
	ck_assert_int_eq(
		http_client_connect(&client, (struct sockaddr *)&addr, sizeof(addr), -1, &op),
		-ECONNREFUSED);
	ck_assert(str_starts(op.err.msg, "connect to 127.0.0.1:"));
	ck_assert_int_eq(http_client_connect_unix(&client, "/nonexistent/x.sock", &op), -ENOENT);
	ck_assert_int_eq(http_client_connect_unix(&client, long_path, &op), -ENAMETOOLONG);
	ck_assert_int_eq(client.fd, -1);
	ck_assert_int_eq(post(NULL, 0), -ENOTCONN);
}
END_TEST

static void *signal_event(void *arg)
{
	ck_assert_int_eq(eventfd_write(*(int *)arg, 1), 0);
	return NULL;
}

/*
 * Fills a listener's backlog until a connection is not taken at once. Return: how many sockets
 * there are in @out.
 */
static size_t fill_backlog(const struct sockaddr *addr, socklen_t len, int out[8])
{
	for (size_t n = 0; n < 8; n++) {
		struct pollfd p = { .events = POLLOUT };

		out[n] = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		p.fd = out[n];
		if (connect(out[n], addr, len) < 0 &&
		    (errno == EAGAIN || poll(&p, 1, SHORT_MS) == 0))
			return n + 1;
	}
	ck_abort_msg("the backlog has no end");
	return 0;
}

/* Connecting to a listener whose backlog is full. */
static void check_stuck_connect(const struct sockaddr *addr, socklen_t len)
{
	auto_close int event = eventfd(0, EFD_CLOEXEC);
	pthread_t thread;

	op_init(&op, SHORT_MS, -1);
	ck_assert_int_eq(http_client_connect(&client, addr, len, -1, &op), -ETIMEDOUT);
	ck_assert_int_eq(op.err.kind, ERR_TIMEOUT);

	op_init(&op, 0, -1);
	ck_assert_int_eq(pthread_create(&thread, NULL, signal_event, &event), 0);
	ck_assert_int_eq(http_client_connect(&client, addr, len, event, &op), -ECONNABORTED);
	pthread_join(thread, NULL);

	op_init(&op, 0, event);
	ck_assert_int_eq(http_client_connect(&client, addr, len, -1, &op), -ECANCELED);
	ck_assert_int_eq(client.fd, -1);
	op_init(&op, patient_ms(10000), -1);
}

START_TEST(test_stuck_connect_tcp)
{
	struct sockaddr_in addr;
	auto_close int fd = listen_tcp(&addr, 0);
	int others[8];
	size_t n = fill_backlog((const struct sockaddr *)&addr, sizeof(addr), others);

	ck_assert_int_ge(fd, 0);
	check_stuck_connect((const struct sockaddr *)&addr, sizeof(addr));
	while (n > 0)
		fd_close(&others[--n]);
}
END_TEST

static void *accept_one(void *arg)
{
	auto_close int fd = accept4(*(int *)arg, NULL, NULL, SOCK_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return NULL;
}

START_TEST(test_stuck_connect_unix)
{
	struct sockaddr_un addr;
	auto_close int fd = listen_unix(&addr, 0);
	int others[8];
	size_t n = fill_backlog((const struct sockaddr *)&addr, sizeof(addr), others);
	pthread_t thread;

	check_stuck_connect((const struct sockaddr *)&addr, sizeof(addr));
	/* Once there is room it goes on, and the socket does not block afterwards. */
	ck_assert_int_eq(pthread_create(&thread, NULL, accept_one, &fd), 0);
	ck_assert_int_eq(http_client_connect_unix(&client, addr.sun_path, &op), 0);
	ck_assert_int_ne(fcntl(client.fd, F_GETFL) & O_NONBLOCK, 0);
	pthread_join(thread, NULL);
	while (n > 0)
		fd_close(&others[--n]);
	unlink(addr.sun_path);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_connect");
	TCase *tc = tcase_create("connect");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_test(tc, test_large_tcp);
	tcase_add_test(tc, test_answer_before_body);
	tcase_add_test(tc, test_connect_fails);
	tcase_add_test(tc, test_stuck_connect_tcp);
	tcase_add_test(tc, test_stuck_connect_unix);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
