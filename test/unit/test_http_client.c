/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server is the other end of a socket pair of packets, into which the reply is put before the
 * client asks: each packet arrives by itself, so the test decides where replies are split. Servers
 * behind listeners are in test_http_connect.c.
 */
#include "http/client.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "patience.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { BODY_MAX = 16 << 20, BIG_BYTES = 4 << 20, SHORT_MS = 50 };

#define OK_LENGTH  "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
#define OK_CHUNKED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define CHUNKS     "2\r\nhe\r\n3;x\r\nllo\r\n0\r\nA: b\r\n\r\n"
#define OK_EOF     "HTTP/1.1 200 OK\r\n\r\nhello"

static struct op op;
static struct http_client client;
static struct buf reply;
static int peer; /* the other end of the client's socket */

static void put(const char *p, size_t n)
{
	ck_assert_int_eq(write(peer, p, n), n);
}

static void put_text(const char *s)
{
	put(s, strlen(s));
}

static void adopt(int type)
{
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair), 0);
	client = (struct http_client)HTTP_CLIENT_INIT;
	client.fd = pair[0];
	client.reusable = true;
	peer = pair[1];
	op_init(&op, patient_ms(10000), -1);
}

static void setup(void)
{
	reply = (struct buf)BUF_INIT(BODY_MAX);
	adopt(SOCK_SEQPACKET);
}

static void teardown(void)
{
	http_client_done(&client);
	http_client_done(&client);
	buf_done(&reply);
	fd_close(&peer);
}

static void again(void)
{
	teardown();
	adopt(SOCK_SEQPACKET);
}

static int get(void)
{
	return http_client_call(&client, "GET", "/a?b", NULL, NULL, 0, &reply, &op);
}

static const struct {
	const char *text;
	bool reusable;
	bool until_close;
} replies[] = {
	{ OK_LENGTH, true, false },
	{ OK_CHUNKED CHUNKS, true, false },
	{ OK_EOF, false, true },
	{ "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\nA: b\r\n\r\n" OK_LENGTH, true, false },
};

/* Cut in two at every byte. */
START_TEST(test_split)
{
	const char *text = replies[_i].text;
	size_t n = strlen(text);

	for (size_t k = 1; k <= n; k++) {
		put(text, k);
		if (k < n)
			put(text + k, n - k);
		ck_assert_int_eq(shutdown(peer, SHUT_WR), 0);
		ck_assert_int_eq(get(), 200);
		ck_assert_str_eq(buf_str(&reply), "hello");
		ck_assert_int_eq(client.reusable, replies[_i].reusable);
		again();
	}
}
END_TEST

START_TEST(test_byte_by_byte)
{
	for (const char *s = replies[_i].text; *s != '\0'; s++)
		put(s, 1);
	ck_assert_int_eq(shutdown(peer, SHUT_WR), 0);
	ck_assert_int_eq(get(), 200);
	ck_assert_str_eq(buf_str(&reply), "hello");
}
END_TEST

/* Cut off at every byte. */
START_TEST(test_early_close)
{
	const char *text = replies[_i].text;
	size_t body = replies[_i].until_close ? strlen(text) - strlen("hello") : strlen(text);

	for (size_t k = 0; k < body; k++) {
		if (k > 0)
			put(text, k);
		ck_assert_int_eq(shutdown(peer, SHUT_WR), 0);
		ck_assert_int_eq(get(), -ECONNRESET);
		ck_assert_int_eq(op.err.kind, ERR_SYSTEM);
		ck_assert(str_starts(op.err.msg, "GET /a?b: "));
		ck_assert(!client.reusable);
		again();
	}
}
END_TEST

static const struct {
	const char *text;
	int r;
} bad_replies[] = {
	{ "SSH-2.0-x\r\n", -EBADMSG },
	{ "HTTP/1.1 200 OK\nA: b\n\n", -EBADMSG },
	{ "HTTP/2.0 200 OK\r\n\r\n", -EPROTONOSUPPORT },
	{ "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", -EOPNOTSUPP },
	{ OK_CHUNKED "x\r\n", -EBADMSG },
	{ OK_CHUNKED "5\r\nhello5\r\n", -EBADMSG },
};

/* A broken server is not the fault of who asked us: no ERR_INVALID. */
START_TEST(test_bad_reply)
{
	put_text(bad_replies[_i].text);
	ck_assert_int_eq(get(), bad_replies[_i].r);
	ck_assert_int_eq(op.err.kind, ERR_SYSTEM);
	ck_assert(!client.reusable);
}
END_TEST

static void expect_request(const char *text)
{
	char got[4096];
	size_t n = 0;
	ssize_t r;

	while ((r = recv(peer, got + n, sizeof(got) - 1 - n, MSG_DONTWAIT)) > 0)
		n += (size_t)r;
	got[n] = '\0';
	ck_assert_str_eq(got, text);
}

START_TEST(test_request)
{
	const struct http_field fields[] = { { "A", "b" }, { "C", "d" }, { NULL, NULL } };

	put_text(OK_LENGTH);
	ck_assert_int_eq(get(), 200);
	expect_request("GET /a?b HTTP/1.1\r\nHost: localhost\r\n\r\n");
	put_text(OK_LENGTH);
	ck_assert_int_eq(http_client_call(&client, "POST", "/", fields, "abc", 3, &reply, &op),
			 200);
	expect_request("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
		       "A: b\r\nC: d\r\n\r\nabc");
	put_text(OK_LENGTH);
	ck_assert_int_eq(http_client_call(&client, "POST", "/", NULL, NULL, 0, &reply, &op), 200);
	expect_request("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n");
	ck_assert_str_eq(buf_str(&reply), "hellohellohello");
}
END_TEST

START_TEST(test_bad_request)
{
	const struct http_field fields[] = { { "A", "b\r\nC: d" }, { NULL, NULL } };

	ck_assert_int_eq(http_client_send(&client, "GET", "/", fields, NULL, 0, &op), -EINVAL);
	ck_assert_int_eq(http_client_send(&client, "GET", "/ b", NULL, NULL, 0, &op), -EINVAL);
	expect_request("");
	/* Nothing was sent, so the connection is as good as before. */
	ck_assert(client.reusable);
}
END_TEST

START_TEST(test_head_has_no_body)
{
	put_text("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
	ck_assert_int_eq(http_client_call(&client, "HEAD", "/", NULL, NULL, 0, &reply, &op), 200);
	ck_assert_str_eq(http_head_get(&client.head, "Content-Length"), "5");
	ck_assert(client.reusable);
	put_text("HTTP/1.1 204 No Content\r\n\r\n");
	ck_assert_int_eq(get(), 204);
	ck_assert(client.reusable);
	ck_assert_uint_eq(reply.len, 0);
}
END_TEST

START_TEST(test_not_reusable)
{
	put_text("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
	ck_assert_int_eq(get(), 200);
	ck_assert(!client.reusable);
	ck_assert_int_eq(get(), -ENOTCONN);
	again();
	/* More than was announced: it must not become the next reply. */
	put_text(OK_LENGTH "HTTP/1.1 200 OK\r\n\r\n");
	ck_assert_int_eq(get(), 200);
	ck_assert(!client.reusable);
	again();
	/* A body that was not read to its end. */
	put_text(OK_LENGTH);
	ck_assert_int_eq(http_client_send(&client, "GET", "/", NULL, NULL, 0, &op), 0);
	ck_assert_int_eq(http_client_head(&client, &op), 0);
	ck_assert_int_eq(get(), -ENOTCONN);
}
END_TEST

/* After an upgrade the bytes behind the head are the tunnel's. */
START_TEST(test_upgrade)
{
	put_text("HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: t\r\n\r\nearly ");
	put_text("late");
	ck_assert_int_eq(shutdown(peer, SHUT_WR), 0);
	ck_assert_int_eq(get(), 101);
	ck_assert_uint_eq(reply.len, 0);
	ck_assert_int_eq(http_client_read(&client, &reply, &op), 6);
	ck_assert_int_eq(http_client_read(&client, &reply, &op), 4);
	ck_assert_int_eq(http_client_read(&client, &reply, &op), 0);
	ck_assert_str_eq(buf_str(&reply), "early late");
	ck_assert(!client.reusable);
}
END_TEST

START_TEST(test_read_ready)
{
	ck_assert_int_eq(http_client_send(&client, "GET", "/", NULL, NULL, 0, &op), 0);
	put_text(OK_CHUNKED);
	ck_assert_int_eq(http_client_head(&client, &op), 0);
	ck_assert_int_eq(http_client_read_ready(&client, &reply, &op), -EAGAIN);
	put_text("5\r\nhe");
	ck_assert_int_eq(http_client_read_ready(&client, &reply, &op), 2);
	ck_assert_int_eq(http_client_read_ready(&client, &reply, &op), -EAGAIN);
	put_text("llo\r");
	put_text("\n0\r\n");
	ck_assert_int_eq(http_client_read_ready(&client, &reply, &op), 3);
	ck_assert_int_eq(http_client_read_ready(&client, &reply, &op), -EAGAIN);
	ck_assert(!client.reusable);
	put_text("\r\n");
	ck_assert_int_eq(http_client_read_ready(&client, &reply, &op), 0);
	ck_assert_int_eq(http_client_read_ready(&client, &reply, &op), 0);
	ck_assert(!err_is_set(&op.err));
	ck_assert(client.reusable);
	ck_assert_str_eq(buf_str(&reply), "hello");
}
END_TEST

/* The caller's buffer bounds the reply; one that fits exactly is no failure. */
START_TEST(test_reply_too_large)
{
	static const char *const texts[] = { OK_LENGTH, OK_CHUNKED CHUNKS, OK_EOF };

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		for (size_t max = 0; max <= 5; max++) {
			buf_init(&reply, max);
			put_text(texts[i]);
			ck_assert_int_eq(shutdown(peer, SHUT_WR), 0);
			ck_assert_int_eq(get(), max == 5 ? 200 : -EMSGSIZE);
			again();
		}
	}
}
END_TEST

/* A caller that takes pieces into a small buffer gets all of them. */
START_TEST(test_small_pieces)
{
	char all[16] = "";
	ssize_t n;

	buf_init(&reply, 2);
	put_text(OK_CHUNKED CHUNKS);
	ck_assert_int_eq(http_client_send(&client, "GET", "/", NULL, NULL, 0, &op), 0);
	ck_assert_int_eq(http_client_head(&client, &op), 0);
	while ((n = http_client_read(&client, &reply, &op)) > 0) {
		ck_assert_uint_eq(n, reply.len);
		strncat(all, buf_str(&reply), reply.len);
		buf_clear(&reply);
	}
	ck_assert_int_eq(n, 0);
	ck_assert_str_eq(all, "hello");
}
END_TEST

START_TEST(test_timeout)
{
	op_init(&op, SHORT_MS, -1);
	ck_assert_int_eq(get(), -ETIMEDOUT);
	ck_assert_int_eq(op.err.kind, ERR_TIMEOUT);
	again();
	op_init(&op, SHORT_MS, -1);
	put_text("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell");
	ck_assert_int_eq(get(), -ETIMEDOUT);
	ck_assert_str_eq(buf_str(&reply), "hell");
	ck_assert(!client.reusable);
}
END_TEST

/* A server that does not read. */
START_TEST(test_send_timeout)
{
	auto_free char *body = xcalloc(1, BIG_BYTES);

	fd_close(&peer);
	http_client_done(&client);
	adopt(SOCK_STREAM);
	op_init(&op, SHORT_MS, -1);
	ck_assert_int_eq(http_client_send(&client, "PUT", "/", NULL, body, BIG_BYTES, &op),
			 -ETIMEDOUT);
	ck_assert_int_eq(op.err.kind, ERR_TIMEOUT);
}
END_TEST

/* Bytes that keep coming do not outrun the deadline. */
START_TEST(test_deadline_in_stream)
{
	put_text(OK_CHUNKED);
	ck_assert_int_eq(http_client_send(&client, "GET", "/", NULL, NULL, 0, &op), 0);
	ck_assert_int_eq(http_client_head(&client, &op), 0);
	op.deadline_ns = clock_now_ns();
	put_text("5\r\nhello\r\n");
	ck_assert_int_eq(http_client_read(&client, &reply, &op), -ETIMEDOUT);
}
END_TEST

START_TEST(test_streamed_request)
{
	const struct http_field fields[] = { { "A", "b" }, { NULL, NULL } };

	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(http_client_start(&client, "POST", "/", fields, &op), 0);
		ck_assert(!client.reusable);
		ck_assert_int_eq(http_client_write(&client, "hello", 5, &op), 0);
		ck_assert_int_eq(http_client_write(&client, "", 0, &op), 0);
		ck_assert_int_eq(http_client_write(&client, "\0\r\n", 3, &op), 0);
		ck_assert_int_eq(http_client_finish(&client, &op), 0);
		expect_request(
			"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
			"A: b\r\n\r\n5\r\nhello\r\n3\r\n");
		put_text(OK_LENGTH);
		ck_assert_int_eq(http_client_head(&client, &op), 0);
		ck_assert_int_eq(http_client_read(&client, &reply, &op), 5);
		ck_assert(client.reusable);
	}
	ck_assert_int_eq(http_client_write(&client, "x", 1, &op), -ENOTCONN);
}
END_TEST

/* The server answers before it has the whole body, and reads no more. */
START_TEST(test_streamed_request_answered_early)
{
	auto_free char *body = xcalloc(1, BIG_BYTES);

	http_client_done(&client);
	fd_close(&peer);
	adopt(SOCK_STREAM);
	ck_assert_int_eq(http_client_start(&client, "POST", "/", NULL, &op), 0);
	ck_assert_int_eq(http_client_write(&client, "x", 1, &op), 0);
	put_text(OK_LENGTH);
	ck_assert_int_eq(http_client_write(&client, body, BIG_BYTES, &op), 1);
	ck_assert_int_eq(http_client_finish(&client, &op), 1);
	ck_assert_int_eq(http_client_head(&client, &op), 0);
	ck_assert_int_eq(client.head.status, 200);
	ck_assert_int_eq(http_client_read(&client, &reply, &op), 5);
	ck_assert(!client.reusable);
}
END_TEST

START_TEST(test_streamed_request_hung_up)
{
	ck_assert_int_eq(http_client_start(&client, "POST", "/", NULL, &op), 0);
	fd_close(&peer);
	ck_assert_int_eq(http_client_write(&client, "x", 1, &op), 1);
	ck_assert_int_eq(http_client_head(&client, &op), -ECONNRESET);
}
END_TEST

/* A server that neither reads nor answers. */
START_TEST(test_streamed_request_timeout)
{
	auto_free char *body = xcalloc(1, BIG_BYTES);

	http_client_done(&client);
	fd_close(&peer);
	adopt(SOCK_STREAM);
	op_init(&op, SHORT_MS, -1);
	ck_assert_int_eq(http_client_start(&client, "POST", "/", NULL, &op), 0);
	ck_assert_int_eq(http_client_write(&client, body, BIG_BYTES, &op), -ETIMEDOUT);
}
END_TEST

static void *signal_event(void *arg)
{
	ck_assert_int_eq(eventfd_write(*(int *)arg, 1), 0);
	return NULL;
}

START_TEST(test_cancel)
{
	auto_close int event = eventfd(0, EFD_CLOEXEC);
	pthread_t thread;

	op_init(&op, 0, event);
	ck_assert_int_eq(pthread_create(&thread, NULL, signal_event, &event), 0);
	ck_assert_int_eq(get(), -ECANCELED);
	ck_assert_int_eq(op.err.kind, ERR_CANCELLED);
	pthread_join(thread, NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_client");
	TCase *tc = tcase_create("client");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 30);
	tcase_add_loop_test(tc, test_split, 0, ARRAY_SIZE(replies));
	tcase_add_loop_test(tc, test_byte_by_byte, 0, ARRAY_SIZE(replies));
	tcase_add_loop_test(tc, test_early_close, 0, ARRAY_SIZE(replies));
	tcase_add_loop_test(tc, test_bad_reply, 0, ARRAY_SIZE(bad_replies));
	tcase_add_test(tc, test_request);
	tcase_add_test(tc, test_bad_request);
	tcase_add_test(tc, test_head_has_no_body);
	tcase_add_test(tc, test_not_reusable);
	tcase_add_test(tc, test_upgrade);
	tcase_add_test(tc, test_read_ready);
	tcase_add_test(tc, test_reply_too_large);
	tcase_add_test(tc, test_small_pieces);
	tcase_add_test(tc, test_timeout);
	tcase_add_test(tc, test_send_timeout);
	tcase_add_test(tc, test_deadline_in_stream);
	tcase_add_test(tc, test_streamed_request);
	tcase_add_test(tc, test_streamed_request_answered_early);
	tcase_add_test(tc, test_streamed_request_hung_up);
	tcase_add_test(tc, test_streamed_request_timeout);
	tcase_add_test(tc, test_cancel);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
