/* SPDX-License-Identifier: Apache-2.0 */
#include "http/codec.h"

#include "base/str.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

enum { IN_MAX = 1 << 20 };

/* What was read of one message. */
struct message {
	int r; /* of the head, or of the body */
	struct http_head head;
	struct buf body;
	bool complete;
	size_t rest; /* bytes behind it */
	struct err err;
};

#define auto_message cleanup(message_done) struct message

static void message_done(struct message *m)
{
	http_head_done(&m->head);
	buf_done(&m->body);
}

static int parse_head(struct buf *in, const char *answers, struct message *m)
{
	if (answers != NULL)
		return http_head_parse_response(in, answers, &m->head, &m->err);
	return http_head_parse_request(in, &m->head, &m->err);
}

/* Reads one message, with @step bytes arriving at a time; @answers as in the codec, or NULL. */
static struct message read_message(const char *text, size_t n, size_t step, const char *answers)
{
	struct message m = { .body = BUF_INIT(IN_MAX) };
	auto_buf in = BUF_INIT(IN_MAX);
	struct http_body body = { 0 };
	size_t used = 0;

	for (size_t at = 0; at < n && m.r >= 0 && !m.complete; at += step) {
		ck_assert_int_eq(buf_append(&in, text + at, MIN(step, n - at)), 0);
		m.rest = n - at - MIN(step, n - at);
		if (m.r == 0) {
			m.r = parse_head(&in, answers, &m);
			if (m.r == 1)
				http_body_init(&body, &m.head);
		}
		do {
			const char *data = NULL;
			size_t len = 0;
			int r = 0;

			used = 0;
			if (m.r == 1 && in.len > 0)
				r = http_body_next(&body, buf_head(&in), in.len, &used, &data,
						   &len);
			if (r < 0)
				m.r = r;
			ck_assert_int_eq(buf_append(&m.body, data, len), 0);
			buf_consume(&in, used);
		} while (m.r == 1 && used > 0 && !body.done);
		m.complete = m.r == 1 && body.done;
	}
	m.rest += in.len;
	return m;
}

static struct message read_request(const char *text)
{
	return read_message(text, strlen(text), strlen(text), NULL);
}

#define REQUEST(headers) "POST / HTTP/1.1\r\nHost: x\r\n" headers "\r\n"
#define CHUNKED(body)    REQUEST("Transfer-Encoding: chunked\r\n") body

static const struct {
	const char *text;
	const char *body;
	size_t rest;
} good[] = {
	{ "GET / HTTP/1.1\r\n\r\n", "", 0 },
	{ "GET / HTTP/1.0\r\n\r\n", "", 0 },
	{ "\r\n\r\nGET / HTTP/1.1\r\n\r\n", "", 0 },
	{ "M-SEARCH /a%20b?c=d#", NULL, 0 }, /* incomplete so far */
	{ "OPTIONS * HTTP/1.1\r\n\r\n", "", 0 },
	{ "GET /!$&'()*+,;=:@-._~\"<>[]^`{|}\\ HTTP/1.1\r\n\r\n", "", 0 },
	{ "GET //?/?? HTTP/1.1\r\n\r\n", "", 0 },
	{ REQUEST("Content-Length: 5\r\n") "helloGET", "hello", 3 },
	{ REQUEST("CONTENT-LENGTH:\t 005 \t\r\n") "hello", "hello", 0 },
	{ REQUEST("Content-Length: 0\r\n") "hello", "", 5 },
	{ REQUEST("Content-Length: 9223372036854775807\r\n") "h", NULL, 0 },
	{ REQUEST("A:\r\nA: \r\nB:\xff\tc\r\n"), "", 0 },
	{ REQUEST("Transfer-Encoding: CHUNKED\r\n") "0\r\n\r\n", "", 0 },
	{ CHUNKED("5\r\nhello\r\n0\r\n\r\nGET"), "hello", 3 },
	{ CHUNKED("00005\r\nhello\r\n0000000000000000\r\n\r\n"), "hello", 0 },
	{ CHUNKED("2;a\r\nhe\r\n3;b=\"c\" ;d\r\nllo\r\n0;e\r\n\r\n"), "hello", 0 },
	{ CHUNKED("A\r\n0123456789\r\nb\r\n0123456789a\r\n0\r\n\r\n"), "01234567890123456789a", 0 },
	{ CHUNKED("2\r\n\r\n\r\n0\r\nA: b\r\nContent-Length: 7\r\n\r\n"), "\r\n", 0 },
	{ CHUNKED("7fffffffffffffff\r\nh"), NULL, 0 },
	{ CHUNKED("5\r\nhello\r\n0\r\n\r"), NULL, 0 },
};

START_TEST(test_good)
{
	const char *text = good[_i].text;
	size_t n = strlen(text);

	for (size_t step = 1; step <= n; step++) {
		auto_message m = read_message(text, n, step, NULL);

		ck_assert_msg(m.r >= 0, "%s: %s", text, m.err.msg);
		ck_assert_int_eq(m.complete, good[_i].body != NULL);
		if (m.complete) {
			ck_assert_str_eq(buf_str(&m.body), good[_i].body);
			ck_assert_uint_eq(m.rest, good[_i].rest);
		}
	}
}
END_TEST

#define BAD_TEXT(s, code)                                                                          \
	{                                                                                          \
		s, sizeof(s) - 1, code                                                             \
	}

static const struct {
	const char *text;
	size_t n;
	int code;
} bad[] = {
	/* first line */
	BAD_TEXT("GET /\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET  / HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET /  HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET / HTTP/1.1 \r\n\r\n", -EBADMSG),
	BAD_TEXT(" GET / HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET\t/ HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("G(T / HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET /a b HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET / HTTX/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET / http/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET / HTTP/1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET / HTTP/1.10\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET / HTTP/2.0\r\n\r\n", -EPROTONOSUPPORT),
	BAD_TEXT("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", -EPROTONOSUPPORT),
	BAD_TEXT("GET / HTTP/1.2\r\n\r\n", -EPROTONOSUPPORT),
	BAD_TEXT("GET / HTTP/0.9\r\n\r\n", -EPROTONOSUPPORT),
	BAD_TEXT("\x16\x03\x01\x02", -EBADMSG), /* TLS */
	/* target */
	BAD_TEXT("GET http://x/ HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET * HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET a HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("CONNECT x:80 HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("CONNECT / HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET /a#b HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET /\xc3\xa4 HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET /a\x01 HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET /a\x7f HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET /\0 HTTP/1.1\r\n\r\n", -EBADMSG),
	/* line ends */
	BAD_TEXT("GET / HTTP/1.1\n\n", -EBADMSG),
	BAD_TEXT("\nGET / HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("\rGET / HTTP/1.1\r\n\r\n", -EBADMSG),
	BAD_TEXT("GET / HTTP/1.1\r\r\n\r\n", -EBADMSG),
	BAD_TEXT(REQUEST("A: b\n"), -EBADMSG),
	BAD_TEXT(REQUEST("A: b\nContent-Length: 5\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("A: b\rContent-Length: 5\r\n"), -EBADMSG),
	BAD_TEXT("GET / HTTP/1.1\r\n\n", -EBADMSG),
	/* headers */
	BAD_TEXT(REQUEST("A: b\r\n c\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("A: b\r\n\tc\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST(" A: b\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("A : b\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Content-Length : 5\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("A\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST(": b\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("A(: b\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("\xc3\xa4: b\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("A: b\0c\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("A\0: b\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("A: b\x01\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("A: b\x7f\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("HOST: y\r\n"), -EBADMSG),
	/* framing */
	BAD_TEXT(REQUEST("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Content-Length: 5\r\nContent-Length: 6\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Content-Length: 5\r\ncontent-length: 5\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Content-Length: 5, 5\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Content-Length: \r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Content-Length: +5\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Content-Length: -5\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Content-Length: 0x5\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Content-Length: 5 5\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Content-Length: 9223372036854775808\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Content-Length: 18446744073709551621\r\n"), -EBADMSG),
	BAD_TEXT(REQUEST("Transfer-Encoding: gzip\r\n"), -EOPNOTSUPP),
	BAD_TEXT(REQUEST("Transfer-Encoding: gzip, chunked\r\n"), -EOPNOTSUPP),
	BAD_TEXT(REQUEST("Transfer-Encoding: chunked, chunked\r\n"), -EOPNOTSUPP),
	BAD_TEXT(REQUEST("Transfer-Encoding: xchunked\r\n"), -EOPNOTSUPP),
	BAD_TEXT(REQUEST("Transfer-Encoding: \x0b"
			 "chunked\r\n"),
		 -EBADMSG),
	BAD_TEXT(REQUEST("Transfer-Encoding:\r\n"), -EOPNOTSUPP),
	BAD_TEXT(REQUEST("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n"), -EBADMSG),
	BAD_TEXT("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", -EBADMSG),
	/* chunks */
	BAD_TEXT(CHUNKED("\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED(";a\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED(" 5\r\nhello"), -EBADMSG),
	BAD_TEXT(CHUNKED("5 \r\nhello"), -EBADMSG),
	BAD_TEXT(CHUNKED("5\t;a\r\nhello"), -EBADMSG),
	BAD_TEXT(CHUNKED("+5\r\nhello"), -EBADMSG),
	BAD_TEXT(CHUNKED("0x5\r\nhello"), -EBADMSG),
	BAD_TEXT(CHUNKED("g\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("5\nhello"), -EBADMSG),
	BAD_TEXT(CHUNKED("5\rhello"), -EBADMSG),
	BAD_TEXT(CHUNKED("5\r\r\nhello"), -EBADMSG),
	BAD_TEXT(CHUNKED("5;a\nhello"), -EBADMSG),
	BAD_TEXT(CHUNKED("5;a\rb\r\nhello"), -EBADMSG),
	BAD_TEXT(CHUNKED("5;\0\r\nhello"), -EBADMSG),
	BAD_TEXT(CHUNKED("5\r\nhello0\r\n\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("5\r\nhello\n0\r\n\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("5\r\nhello\r0\r\n\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("8000000000000000\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("ffffffffffffffff\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("10000000000000005\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("00000000000000005\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("0\r\nA: b\n\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("0\r\nA : b\r\n\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("0\r\n A: b\r\n\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("0\r\n: b\r\n\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("0\r\nA\r\n\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("0\r\nA: b\rc\r\n\r\n"), -EBADMSG),
	BAD_TEXT(CHUNKED("0\r\n\rX"), -EBADMSG),
};

START_TEST(test_bad)
{
	for (size_t step = 1; step <= bad[_i].n; step++) {
		auto_message m = read_message(bad[_i].text, bad[_i].n, step, NULL);

		ck_assert_msg(m.r == bad[_i].code, "%s: %d, not %d (%s)", bad[_i].text, m.r,
			      bad[_i].code, m.err.msg);
	}
}
END_TEST

START_TEST(test_head_of_request)
{
	auto_message m = read_request("PATCH /a/b%2Fc?d=e?f HTTP/1.1\r\n"
				      "Host: localhost:80\r\n"
				      "X-One:\t 1 2 \t\r\n"
				      "x-one: second\r\n"
				      "Empty:\r\n\r\n");

	ck_assert_int_eq(m.r, 1);
	ck_assert_str_eq(m.head.method, "PATCH");
	ck_assert_str_eq(m.head.target, "/a/b%2Fc?d=e?f");
	ck_assert_str_eq(m.head.path, "/a/b%2Fc");
	ck_assert_str_eq(m.head.query, "d=e?f");
	ck_assert_int_eq(m.head.minor, 1);
	ck_assert_uint_eq(m.head.n_headers, 4);
	ck_assert_str_eq(m.head.headers[1].name, "X-One");
	ck_assert_str_eq(http_head_get(&m.head, "x-ONE"), "1 2");
	ck_assert_str_eq(http_head_get(&m.head, "empty"), "");
	ck_assert_ptr_null(http_head_get(&m.head, "X-On"));
	ck_assert_int_eq(m.head.body, HTTP_BODY_NONE);
}
END_TEST

START_TEST(test_no_query)
{
	auto_message none = read_request("GET /a HTTP/1.1\r\n\r\n");
	auto_message empty = read_request("GET /a? HTTP/1.1\r\n\r\n");

	ck_assert_str_eq(none.head.path, "/a");
	ck_assert_str_eq(none.head.query, "");
	ck_assert_str_eq(empty.head.path, "/a");
	ck_assert_str_eq(empty.head.query, "");
	ck_assert_str_eq(empty.head.target, "/a?");
}
END_TEST

static const struct {
	const char *text;
	bool keep_alive;
	bool upgrade;
} connections[] = {
	{ "GET / HTTP/1.1\r\n\r\n", true, false },
	{ "GET / HTTP/1.0\r\n\r\n", false, false },
	{ "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", true, false },
	{ "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", false, false },
	{ "GET / HTTP/1.1\r\nConnection: CLOSE\r\n\r\n", false, false },
	{ "GET / HTTP/1.1\r\nConnection: a,, close ,b\r\n\r\n", false, false },
	{ "GET / HTTP/1.1\r\nConnection: a\r\nConnection: close\r\n\r\n", false, false },
	{ "GET / HTTP/1.1\r\nConnection: closed, xclose, clos, clo se\r\n\r\n", true, false },
	{ "GET / HTTP/1.1\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h\r\n\r\n", true, true },
	{ "GET / HTTP/1.1\r\nConnection: upgrade\r\n\r\n", true, false },
	{ "GET / HTTP/1.1\r\nUpgrade: h\r\n\r\n", true, false },
};

START_TEST(test_connection)
{
	auto_message m = read_request(connections[_i].text);

	ck_assert_int_eq(m.r, 1);
	ck_assert_int_eq(m.head.keep_alive, connections[_i].keep_alive);
	ck_assert_int_eq(m.head.upgrade, connections[_i].upgrade);
}
END_TEST

#define OK_CODED "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

static const struct {
	const char *method;
	const char *text;
	int r;
	int status;
	enum http_body_kind body;
	bool keep_alive;
} responses[] = {
	{ "GET", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 1, 200, HTTP_BODY_LENGTH, true },
	{ "GET", OK_CODED, 1, 200, HTTP_BODY_CHUNKED, true },
	{ "GET", "HTTP/1.1 200 OK\r\n\r\n", 1, 200, HTTP_BODY_EOF, false },
	{ "GET", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", 1, 200, HTTP_BODY_LENGTH, false },
	{ "GET", "HTTP/1.1 404\r\nContent-Length: 5\r\n\r\n", 1, 404, HTTP_BODY_LENGTH, true },
	{ "GET", "HTTP/1.1 599 \r\nContent-Length: 5\r\n\r\n", 1, 599, HTTP_BODY_LENGTH, true },
	{ "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 1, 200, HTTP_BODY_NONE, true },
	{ "HEAD", OK_CODED, 1, 200, HTTP_BODY_NONE, true },
	{ "GET", "HTTP/1.1 100 Continue\r\n\r\n", 1, 100, HTTP_BODY_NONE, true },
	{ "GET", "HTTP/1.1 204 No Content\r\n\r\n", 1, 204, HTTP_BODY_NONE, true },
	{ "GET", "HTTP/1.1 304 x\r\nContent-Length: 5\r\n\r\n", 1, 304, HTTP_BODY_NONE, true },
	{ "GET", "HTTP/1.1 101 x\r\nUpgrade: a\r\n\r\n", 1, 101, HTTP_BODY_TUNNEL, false },
	{ "CONNECT", "HTTP/1.1 200 OK\r\n\r\n", 1, 200, HTTP_BODY_TUNNEL, false },
	{ "CONNECT", "HTTP/1.1 404 x\r\nContent-Length: 5\r\n\r\n", 1, 404, HTTP_BODY_LENGTH,
	  true },
	{ "GET", "HTTP/1.1 099 x\r\n\r\n", -EBADMSG, 0, HTTP_BODY_NONE, false },
	{ "GET", "HTTP/1.1 600 x\r\n\r\n", -EBADMSG, 0, HTTP_BODY_NONE, false },
	{ "GET", "HTTP/1.1 2000\r\n\r\n", -EBADMSG, 0, HTTP_BODY_NONE, false },
	{ "GET", "HTTP/1.1 20\r\n\r\n", -EBADMSG, 0, HTTP_BODY_NONE, false },
	{ "GET", "HTTP/1.1  200 OK\r\n\r\n", -EBADMSG, 0, HTTP_BODY_NONE, false },
	{ "GET", "HTTP/1.1\r\n\r\n", -EBADMSG, 0, HTTP_BODY_NONE, false },
	{ "GET", "HTTP/1.1 200 \x01\r\n\r\n", -EBADMSG, 0, HTTP_BODY_NONE, false },
	{ "GET", "\r\nHTTP/1.1 200 OK\r\n\r\n", -EBADMSG, 0, HTTP_BODY_NONE, false },
	{ "GET", "HTTP/1.1 200 OK\n\n", -EBADMSG, 0, HTTP_BODY_NONE, false },
	{ "GET", "SSH-2.0-x\r\n", -EBADMSG, 0, HTTP_BODY_NONE, false },
	{ "GET", "HTTP/2.0 200 OK\r\n\r\n", -EPROTONOSUPPORT, 0, HTTP_BODY_NONE, false },
};

START_TEST(test_response)
{
	const char *text = responses[_i].text;

	for (size_t step = 1; step <= strlen(text); step++) {
		auto_message m = read_message(text, strlen(text), step, responses[_i].method);

		ck_assert_msg(m.r == responses[_i].r, "%s: %d %s", text, m.r, m.err.msg);
		ck_assert_int_eq(m.head.status, responses[_i].status);
		ck_assert_int_eq(m.head.body, responses[_i].body);
		ck_assert_int_eq(m.head.keep_alive, responses[_i].keep_alive);
	}
}
END_TEST

START_TEST(test_reason)
{
	static const char text[] = "HTTP/1.1 404 Not  Found\r\n\r\n";
	auto_message m = read_message(text, strlen(text), 1, "GET");

	ck_assert_str_eq(m.head.reason, "Not  Found");
}
END_TEST

/* A body is bytes, not text. */
START_TEST(test_body_of_any_bytes)
{
	static const char text[] = REQUEST("Content-Length: 6\r\n") "a\0\r\n\xff\n";
	auto_message m = read_message(text, sizeof(text) - 1, 1, NULL);

	ck_assert(m.complete);
	ck_assert_uint_eq(m.body.len, 6);
	ck_assert_mem_eq(buf_head(&m.body), "a\0\r\n\xff\n", 6);
}
END_TEST

/* Until the connection closes, all bytes are payload, and the end is not ours to see. */
START_TEST(test_body_until_close)
{
	static const char text[] = "HTTP/1.1 200 OK\r\n\r\n0\r\n\r\n";
	auto_message m = read_message(text, strlen(text), 1, "GET");

	ck_assert_str_eq(buf_str(&m.body), "0\r\n\r\n");
	ck_assert(!m.complete);
}
END_TEST

/* A head of exactly @n bytes. */
static char *head_of(size_t n)
{
	static const char before[] = "GET / HTTP/1.1\r\nA: ";
	static const char after[] = "\r\n\r\n";
	size_t fill = n - strlen(before) - strlen(after);
	char *text = str_printf("%s%*s%s", before, (int)fill, "", after);

	memset(text + strlen(before), 'a', fill);
	return text;
}

START_TEST(test_head_size)
{
	auto_free char *fits = head_of(HTTP_HEAD_MAX);
	auto_free char *too_long = head_of(HTTP_HEAD_MAX + 1);
	auto_message good_one = read_request(fits);
	auto_message bad_one = read_request(too_long);
	auto_message no_end = read_message(fits, HTTP_HEAD_MAX - 1, 4096, NULL);
	auto_message piecewise = read_message(too_long, HTTP_HEAD_MAX + 1, 1000, NULL);

	ck_assert_int_eq(good_one.r, 1);
	ck_assert_int_eq(bad_one.r, -EMSGSIZE);
	ck_assert_int_eq(no_end.r, 0);
	ck_assert_int_eq(piecewise.r, -EMSGSIZE);
}
END_TEST

START_TEST(test_header_count)
{
	for (int n = HTTP_HEADERS_MAX; n <= HTTP_HEADERS_MAX + 1; n++) {
		auto_buf text = BUF_INIT(HTTP_HEAD_MAX);
		int r = buf_puts(&text, "GET / HTTP/1.1\r\n");

		for (int i = 0; i < n && r == 0; i++)
			r = buf_printf(&text, "H%d: %d\r\n", i, i);
		ck_assert_int_eq(r, 0);
		ck_assert_int_eq(buf_puts(&text, "\r\n"), 0);
		auto_message m = read_request(buf_str(&text));

		ck_assert_int_eq(m.r, n == HTTP_HEADERS_MAX ? 1 : -EMSGSIZE);
	}
}
END_TEST

/* A chunked request with @n bytes of filling in it. */
static struct message read_filled(const char *before, size_t n, const char *after)
{
	auto_free char *text = str_printf("%s%s%*s%s", CHUNKED(""), before, (int)n, "", after);

	return read_request(text);
}

START_TEST(test_chunk_limits)
{
	auto_message extension = read_filled("1;", 256, "\r\na\r\n0\r\n\r\n");
	auto_message long_extension = read_filled("1;", 257, "\r\na\r\n0\r\n\r\n");
	auto_message trailer = read_filled("0\r\nA:", 32000, "\r\n\r\n");
	auto_message long_trailer = read_filled("0\r\nA:", HTTP_HEAD_MAX, "\r\n\r\n");

	ck_assert_int_eq(extension.complete, true);
	ck_assert_int_eq(long_extension.r, -EMSGSIZE);
	ck_assert_int_eq(trailer.complete, true);
	ck_assert_int_eq(long_trailer.r, -EMSGSIZE);
}
END_TEST

/* The limit counts the whole section, not one line of it. */
START_TEST(test_many_trailers)
{
	auto_buf text = BUF_INIT(IN_MAX);
	int r = buf_puts(&text, CHUNKED("0\r\n"));

	for (int i = 0; i < HTTP_HEAD_MAX / 4 && r == 0; i++)
		r = buf_puts(&text, "A: b\r\n");
	ck_assert_int_eq(r, 0);
	auto_message m = read_request(buf_str(&text));

	ck_assert_int_eq(m.r, -EMSGSIZE);
}
END_TEST

/* A refused head leaves the caller's as it was. */
START_TEST(test_failure_writes_nothing)
{
	struct http_head head = { .status = 7 };
	auto_buf in = BUF_INIT(IN_MAX);
	struct err e = { 0 };

	ck_assert_int_eq(buf_puts(&in, "GET / HTTP/1.1\r\nA\r\n\r\n"), 0);
	ck_assert_int_eq(http_head_parse_request(&in, &head, &e), -EBADMSG);
	ck_assert_int_eq(head.status, 7);
	ck_assert_ptr_null(head.text);
	ck_assert_int_eq(e.kind, ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(e.msg, "'A'"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_codec");
	TCase *reading = tcase_create("reading");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(reading, test_good, 0, ARRAY_SIZE(good));
	tcase_add_loop_test(reading, test_bad, 0, ARRAY_SIZE(bad));
	tcase_add_test(reading, test_head_of_request);
	tcase_add_test(reading, test_no_query);
	tcase_add_loop_test(reading, test_connection, 0, ARRAY_SIZE(connections));
	tcase_add_loop_test(reading, test_response, 0, ARRAY_SIZE(responses));
	tcase_add_test(reading, test_reason);
	tcase_add_test(reading, test_body_of_any_bytes);
	tcase_add_test(reading, test_body_until_close);
	tcase_add_test(reading, test_head_size);
	tcase_add_test(reading, test_header_count);
	tcase_add_test(reading, test_chunk_limits);
	tcase_add_test(reading, test_many_trailers);
	tcase_add_test(reading, test_failure_writes_nothing);
	suite_add_tcase(s, reading);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
