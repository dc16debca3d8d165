/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/str.h"
#include "http/fetch.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BODY_MAX = 64, TIMEOUT_MS = 5000 };

/* A peer that says one thing, whatever it is asked. */
static struct peer {
	int fd;
	const char *says;
	bool stays; /* does not close when it has said it */
	char heard[1024];
} peer;

static struct result {
	unsigned n;
	int status;
	char body[BODY_MAX + 1];
} result;

static uv_loop_t loop;
static struct sockaddr_in addr;
static pthread_t thread;
static bool serving;

static void *serve(void *arg)
{
	auto_close int fd = accept4(peer.fd, NULL, NULL, SOCK_CLOEXEC);
	size_t used = 0;
	ssize_t n;

	(void)arg;
	while (strstr(peer.heard, "\r\n\r\n") == NULL &&
	       (n = read(fd, peer.heard + used, sizeof(peer.heard) - 1 - used)) > 0)
		used += (size_t)n;
	ck_assert_int_eq(fd_write_all(fd, peer.says, strlen(peer.says)), 0);
	while (peer.stays && read(fd, peer.heard, 1) > 0)
		;
	return NULL;
}

static void setup(void)
{
	socklen_t size = sizeof(addr);

	ck_assert_int_eq(uv_loop_init(&loop), 0);
	addr = (struct sockaddr_in){ .sin_family = AF_INET,
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	peer = (struct peer){ .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	result = (struct result){ 0 };
	serving = false;
	ck_assert_int_eq(bind(peer.fd, (const struct sockaddr *)&addr, sizeof(addr)), 0);
	ck_assert_int_eq(getsockname(peer.fd, (struct sockaddr *)&addr, &size), 0);
}

static void teardown(void)
{
	if (serving)
		pthread_join(thread, NULL);
	fd_close(&peer.fd);
	ck_assert_int_eq(uv_loop_close(&loop), 0);
}

static void says(const char *text)
{
	peer.says = text;
	ck_assert_int_eq(listen(peer.fd, 1), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, serve, NULL), 0);
	serving = true;
}

static void on_done(int status, const char *body, size_t n, void *arg)
{
	ck_assert_ptr_eq(arg, &result);
	result.n++;
	result.status = status;
	ck_assert_uint_le(n, BODY_MAX);
	if (status >= 0)
		memcpy(result.body, body, n);
	else
		ck_assert_ptr_null(body);
}

static struct http_fetch *start(const char *target, unsigned timeout_ms)
{
	static const struct http_field fields[] = { { "X-Access-Token", "secret" },
						    { NULL, NULL } };
	struct http_fetch_spec spec = { .addr = addr,
					.target = target,
					.fields = fields,
					.max_bytes = BODY_MAX,
					.timeout_ms = timeout_ms,
					.done = on_done,
					.arg = &result };

	return http_fetch_start(&loop, &spec);
}

static void expect(const char *reply, int status, const char *body)
{
	says(reply);
	start("/metrics", TIMEOUT_MS);
	uv_run(&loop, UV_RUN_DEFAULT);
	ck_assert_uint_eq(result.n, 1);
	ck_assert_int_eq(result.status, status);
	ck_assert_str_eq(result.body, body);
}

START_TEST(test_length)
{
	expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi", 200, "hi");
	ck_assert_ptr_nonnull(strstr(peer.heard, "GET /metrics HTTP/1.1\r\n"));
	ck_assert_ptr_nonnull(strstr(peer.heard, "X-Access-Token: secret\r\n"));
	ck_assert_ptr_nonnull(strstr(peer.heard, "Host: 127.0.0.1:"));
}
END_TEST

START_TEST(test_a_peer_that_does_not_close)
{
	peer.stays = true;
	expect("HTTP/1.1 204 No Content\r\n\r\n", 204, "");
}
END_TEST

START_TEST(test_chunks)
{
	expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: "
	       "chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n",
	       200, "abc");
}
END_TEST

START_TEST(test_until_close)
{
	expect("HTTP/1.0 200 OK\r\n\r\nall", 200, "all");
}
END_TEST

START_TEST(test_continue_is_skipped)
{
	expect("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx",
	       404, "x");
}
END_TEST

START_TEST(test_cut_short)
{
	expect("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhi", -ECONNRESET, "");
}
END_TEST

START_TEST(test_nothing_said)
{
	expect("", -ECONNRESET, "");
}
END_TEST

START_TEST(test_no_http)
{
	expect("SSH-2.0-x\r\n\r\n", -EBADMSG, "");
}
END_TEST

START_TEST(test_too_much)
{
	expect("HTTP/1.0 200 OK\r\n\r\n"
	       "0123456789012345678901234567890123456789012345678901234567890123456789",
	       -EMSGSIZE, "");
}
END_TEST

START_TEST(test_nobody_listens)
{
	start("/", TIMEOUT_MS);
	uv_run(&loop, UV_RUN_DEFAULT);
	ck_assert_uint_eq(result.n, 1);
	ck_assert_int_eq(result.status, -ECONNREFUSED);
}
END_TEST

START_TEST(test_a_silent_peer_is_given_up)
{
	peer.stays = true;
	says("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nno");
	start("/", 50);
	uv_run(&loop, UV_RUN_DEFAULT);
	ck_assert_uint_eq(result.n, 1);
	ck_assert_int_eq(result.status, -ETIMEDOUT);
}
END_TEST

START_TEST(test_what_cannot_be_sent)
{
	start("/with blank", TIMEOUT_MS);
	ck_assert_uint_eq(result.n, 0);
	uv_run(&loop, UV_RUN_DEFAULT);
	ck_assert_uint_eq(result.n, 1);
	ck_assert_int_eq(result.status, -EINVAL);
}
END_TEST

START_TEST(test_cancel)
{
	ck_assert_int_eq(listen(peer.fd, 1), 0);
	http_fetch_cancel(start("/", TIMEOUT_MS));
	http_fetch_cancel(NULL);
	uv_run(&loop, UV_RUN_DEFAULT);
	ck_assert_uint_eq(result.n, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_fetch");
	TCase *c = tcase_create("http_fetch");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_length);
	tcase_add_test(c, test_a_peer_that_does_not_close);
	tcase_add_test(c, test_chunks);
	tcase_add_test(c, test_until_close);
	tcase_add_test(c, test_continue_is_skipped);
	tcase_add_test(c, test_cut_short);
	tcase_add_test(c, test_nothing_said);
	tcase_add_test(c, test_no_http);
	tcase_add_test(c, test_too_much);
	tcase_add_test(c, test_nobody_listens);
	tcase_add_test(c, test_a_silent_peer_is_given_up);
	tcase_add_test(c, test_what_cannot_be_sent);
	tcase_add_test(c, test_cancel);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
