/* SPDX-License-Identifier: Apache-2.0 */
#include "http/server.h"

#include "http/server-internal.h"
#include "http_harness.h"

#include <malloc.h>
#include <sys/resource.h>

static struct world world;

/* What handlers saw; read by the test when the loop is over, or by the client behind a reply. */
static struct {
	int requests;
	int closed_whole;
	int closed_broken;
	size_t bytes;
	size_t queued_max;
	uint64_t left;
	int64_t uid;
	char body[256];
	struct http_exchange *open;
} seen;

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	(void)x;
	(void)arg;
	if (complete)
		seen.closed_whole++;
	else
		seen.closed_broken++;
}

static const struct http_exchange_events count_events = { .on_close = on_close };

/* Echo. */

static void echo_data(struct http_exchange *x, const char *p, size_t n, void *arg)
{
	(void)arg;
	http_reply_write(x, p, n);
	seen.bytes += n;
	seen.queued_max = MAX(seen.queued_max, http_output_queued(&x->conn->out));
	if (http_reply_blocked(x))
		http_body_pause(x, true);
}

static void echo_end(struct http_exchange *x, void *arg)
{
	(void)arg;
	http_reply_end(x);
}

static void echo_drain(struct http_exchange *x, void *arg)
{
	(void)arg;
	http_body_pause(x, false);
}

static const struct http_exchange_events echo_events = {
	.on_data = echo_data,
	.on_end = echo_end,
	.on_drain = echo_drain,
	.on_close = on_close,
};

static void echo(struct http_exchange *x)
{
	const struct http_head *h = http_exchange_head(x);
	bool known = h->body == HTTP_BODY_LENGTH;

	http_exchange_bind(x, &echo_events, NULL);
	http_body_stream(x);
	http_reply_start(x, 200, NULL, known ? (int64_t)h->content_length : -1);
}

/* A reply without end. */

static void flood_drain(struct http_exchange *x, void *arg)
{
	static const char piece[16384];

	(void)arg;
	while (!http_reply_blocked(x))
		http_reply_write(x, piece, sizeof(piece));
	seen.queued_max = MAX(seen.queued_max, http_output_queued(&x->conn->out));
}

static const struct http_exchange_events flood_events = {
	.on_drain = flood_drain,
	.on_close = on_close,
};

/* Aborts, frees the server, or ends the reply from within on_data. */

static void abort_data(struct http_exchange *x, const char *p, size_t n, void *arg)
{
	(void)p;
	(void)n;
	(void)arg;
	http_exchange_abort(x);
}

static const struct http_exchange_events abort_events = {
	.on_data = abort_data,
	.on_close = on_close,
};

static void free_data(struct http_exchange *x, const char *p, size_t n, void *arg)
{
	(void)x;
	(void)p;
	(void)n;
	(void)arg;
	http_server_free(world.servers[0]);
	world.servers[0] = NULL;
}

static const struct http_exchange_events free_events = {
	.on_data = free_data,
	.on_close = on_close,
};

static void early_data(struct http_exchange *x, const char *p, size_t n, void *arg)
{
	(void)p;
	(void)n;
	(void)arg;
	if (!http_reply_started(x))
		http_reply(x, 200, NULL, NULL, "early", 5);
}

static const struct http_exchange_events early_events = {
	.on_data = early_data,
	.on_close = on_close,
};

/* Collect. */

static void collected(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	(void)arg;
	str_copy(seen.body, sizeof(seen.body), body);
	http_reply(x, 200, NULL, "text/plain", body, n);
}

/* Tunnel: sends back what comes, by libuv alone. */

static void tunnel_alloc(uv_handle_t *h, size_t n, uv_buf_t *out)
{
	static char bytes[4096];

	(void)h;
	(void)n;
	*out = uv_buf_init(bytes, sizeof(bytes));
}

static void tunnel_closed(uv_handle_t *h)
{
	free(h);
}

static void tunnel_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	uv_buf_t back = { .base = b->base, .len = n > 0 ? (size_t)n : 0 };

	if (n < 0)
		uv_close((uv_handle_t *)s, tunnel_closed);
	else if (n > 0)
		ck_assert_int_eq(uv_try_write(s, &back, 1), n);
}

static void tunnel(struct http_exchange *x)
{
	const struct http_field fields[] = {
		{ "Connection", "Upgrade" },
		{ "Upgrade", "echo" },
		{ 0 },
	};
	auto_buf early = BUF_INIT(HTTP_EARLY_MAX);
	uv_stream_t *s;
	uv_buf_t b;

	ck_assert(http_exchange_head(x)->upgrade);
	http_exchange_bind(x, &count_events, NULL);
	http_reply_start(x, 101, fields, -1);
	http_exchange_take(x, &s, &early);
	b = uv_buf_init((char *)(uintptr_t)buf_str(&early), (unsigned)early.len);
	ck_assert_int_eq(uv_try_write(s, &b, 1), early.len);
	ck_assert_int_eq(uv_read_start(s, tunnel_alloc, tunnel_read), 0);
}

static void short_reply(struct http_exchange *x)
{
	http_exchange_bind(x, &count_events, NULL);
	http_reply_start(x, 200, NULL, 10);
	http_reply_write(x, "four", 4);
	http_reply_end(x);
}

static void flood(struct http_exchange *x)
{
	http_exchange_bind(x, &flood_events, NULL);
	http_reply_start(x, 200, NULL, -1);
	flood_drain(x, NULL);
}

static void bad_field(struct http_exchange *x)
{
	const struct http_field fields[] = { { "X", "a\r\nEvil: yes" }, { 0 } };

	http_reply(x, 200, fields, NULL, "body", 4);
}

static void paused(struct http_exchange *x)
{
	http_body_stream(x);
	http_body_pause(x, true);
	http_reply_start(x, 200, NULL, 0);
}

static void stream_to(struct http_exchange *x, const struct http_exchange_events *events)
{
	http_exchange_bind(x, events, NULL);
	http_body_stream(x);
}

static void handler(struct http_exchange *x, void *arg)
{
	const char *path = http_exchange_head(x)->path;

	(void)arg;
	seen.requests++;
	seen.uid = http_exchange_peer_uid(x);
	http_exchange_bind(x, &count_events, NULL);
	if (streq(path, "/echo"))
		echo(x);
	else if (streq(path, "/flood"))
		flood(x);
	else if (streq(path, "/never"))
		__atomic_store_n(&seen.open, x, __ATOMIC_RELEASE); /* late_client() waits for it */
	else if (streq(path, "/paused"))
		paused(x);
	else if (streq(path, "/abort"))
		stream_to(x, &abort_events);
	else if (streq(path, "/free"))
		stream_to(x, &free_events);
	else if (streq(path, "/early"))
		stream_to(x, &early_events);
	else if (streq(path, "/collect"))
		http_body_collect(x, 100, collected, NULL);
	else if (streq(path, "/tunnel"))
		tunnel(x);
	else if (streq(path, "/short"))
		short_reply(x);
	else if (streq(path, "/bad-field"))
		bad_field(x);
	else if (streq(path, "/204"))
		http_reply(x, 204, NULL, NULL, NULL, 0);
	else if (streq(path, "/304"))
		http_reply(x, 304, NULL, NULL, NULL, 0);
	else
		http_reply(x, 200, NULL, "text/plain", path, strlen(path));
}

static void run(const struct http_server_config *config, void (*client)(struct world *w))
{
	world_init(&world);
	world_serve(&world, config);
	world_run(&world, client);
}

static const struct http_server_config plain = { .handler = handler };

#define OK_TEXT(n, body)                                                                           \
	"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " #n "\r\n\r\n" body
#define OK_CLOSE(n, body)                                                                          \
	"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " #n                       \
	"\r\nConnection: close\r\n\r\n" body

static void keep_alive_client(struct world *w)
{
	auto_close int u = dial_unix(&w->unix_addr);
	auto_close int t = dial_tcp(&w->tcp_addr[0]);

	say(t, "GET /one HTTP/1.1\r\nHost: a\r\n\r\n");
	hear(t, OK_TEXT(4, "/one"));
	ck_assert_int_eq(seen.uid, -1);
	say(t, "GET /t");
	say(u, "GET /u HTTP/1.1\r\nHost: a\r\n\r\n");
	hear(u, OK_TEXT(2, "/u"));
	ck_assert_int_eq(seen.uid, getuid());
	say(t, "wo?x=1 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
	hear(t, OK_CLOSE(4, "/two"));
	hear_eof(t);
}

START_TEST(keep_alive)
{
	run(&plain, keep_alive_client);
	ck_assert_int_eq(seen.requests, 3);
	ck_assert_int_eq(seen.closed_whole, 3);
	ck_assert_int_eq(seen.closed_broken, 0);
}
END_TEST

enum { PIPELINED = 5000 };

static void *pipeline_writer(void *arg)
{
	int fd = *(int *)arg;
	auto_buf all = BUF_INIT(8 << 20);

	for (int i = 0; i < PIPELINED; i++)
		ck_assert_int_eq(buf_printf(&all, "GET /%05d HTTP/1.1\r\nHost:\r\n\r\n", i), 0);
	ck_assert_int_eq(fd_write_all(fd, buf_str(&all), all.len), 0);
	return NULL;
}

static void pipeline_client(struct world *w)
{
	auto_close int fd = dial_unix(&w->unix_addr);
	auto_buf in = BUF_INIT(1 << 20);
	pthread_t writer;

	ck_assert_int_eq(pthread_create(&writer, NULL, pipeline_writer, &fd), 0);
	for (int i = 0; i < PIPELINED; i++) {
		auto_buf body = BUF_INIT(100);
		char want[16];

		snprintf(want, sizeof(want), "/%05d", i);
		ck_assert_int_eq(hear_response(fd, "GET", &in, &body), 200);
		ck_assert_str_eq(buf_str(&body), want);
	}
	ck_assert_int_eq(pthread_join(writer, NULL), 0);
}

START_TEST(pipelining)
{
	run(&plain, pipeline_client);
	ck_assert_int_eq(seen.closed_whole, PIPELINED);
}
END_TEST

static void chunked_client(struct world *w)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);

	say(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
	hear(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	say(fd, "5\r\nhello\r\n");
	hear(fd, "5\r\nhello\r\n");
	say(fd, "1;x=y\r\n!\r\n0\r\nTrailer: dropped\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n");
	hear(fd, "1\r\n!\r\n0\r\n\r\n");
	hear(fd, OK_TEXT(5, "/next"));
	say(fd, "POST /echo HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc");
	hear(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc");
	hear_eof(fd);
}

START_TEST(chunked_both_ways)
{
	run(&plain, chunked_client);
	ck_assert_int_eq(seen.closed_whole, 3);
}
END_TEST

static const size_t big = 8 << 20;

static void big_client(struct world *w)
{
	auto_close int fd = dial_unix(&w->unix_addr);
	char head[128];
	size_t sent;

	snprintf(head, sizeof(head),
		 "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %zu\r\n\r\n", big);
	say(fd, head);
	sent = say_until_stalled(fd, big);
	ck_assert_uint_lt(sent, big / 4);
	snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", big);
	hear(fd, head);
	pump(fd, fd, sent, big);
	say(fd, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	hear(fd, OK_TEXT(1, "/"));
}

START_TEST(slow_reader)
{
	run(&plain, big_client);
	ck_assert_uint_eq(seen.bytes, big);
	ck_assert_uint_le(seen.queued_max, HTTP_OUTPUT_HIGH + HTTP_READ_BYTES);
	ck_assert_int_eq(seen.closed_whole, 2);
}
END_TEST

static void vanish_client(struct world *w)
{
	auto_close int flooded = dial_tcp(&w->tcp_addr[0]);
	auto_close int waiting = dial_unix(&w->unix_addr);
	auto_close int sending = dial_unix(&w->unix_addr);
	auto_close int last = dial_unix(&w->unix_addr);

	say(flooded, "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
	hear(flooded, "HTTP/1.1 200 OK\r\n");
	fd_close(&flooded);
	say(waiting, "GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
	fd_close(&waiting);
	say(sending, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
	hear(sending, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
	fd_close(&sending);
	say(last, "GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert_int_eq(shutdown(last, SHUT_WR), 0);
	hear_eof(last);
}

START_TEST(client_vanishes)
{
	run(&plain, vanish_client);
	ck_assert_int_eq(seen.requests, 4);
	ck_assert_int_eq(seen.closed_broken, 4);
	ck_assert_int_eq(seen.closed_whole, 0);
	ck_assert_uint_le(seen.queued_max, HTTP_OUTPUT_HIGH + HTTP_READ_BYTES);
}
END_TEST

static void half_close_client(struct world *w)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);

	say(fd, "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n");
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	hear(fd, OK_TEXT(2, "/a"));
	hear(fd, OK_TEXT(2, "/b"));
	hear_eof(fd);
}

static void paused_client(struct world *w)
{
	auto_close int bulk = dial_unix(&w->unix_addr);
	auto_close int small = dial_unix(&w->unix_addr);

	say(bulk, "POST /paused HTTP/1.1\r\nHost: a\r\nContent-Length: 8388608\r\n\r\n");
	ck_assert_uint_lt(say_until_stalled(bulk, big), big / 4);
	say(small, "POST /paused HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\n");
	hear(small, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
	ck_assert_int_eq(shutdown(small, SHUT_WR), 0);
	hear_eof(small);
}

START_TEST(client_vanishes_behind_a_pause)
{
	run(&plain, paused_client);
	ck_assert_int_eq(seen.closed_broken, 2);
}
END_TEST

START_TEST(half_close_behind_answered_requests)
{
	run(&plain, half_close_client);
	ck_assert_int_eq(seen.closed_whole, 2);
}
END_TEST

static void abort_client(struct world *w)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);
	auto_close int other = dial_tcp(&w->tcp_addr[0]);

	say(fd, "POST /abort HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		"1\r\na\r\n1\r\nb\r\n");
	hear_reset(fd);
	say(other, "GET /short HTTP/1.1\r\nHost: a\r\n\r\n");
	hear_reset(other);
}

START_TEST(abort_resets)
{
	run(&plain, abort_client);
	ck_assert_int_eq(seen.closed_broken, 2);
	ck_assert_int_eq(seen.closed_whole, 0);
}
END_TEST

static void free_client(struct world *w)
{
	auto_close int waiting = dial_tcp(&w->tcp_addr[0]);
	auto_close int idle = dial_tcp(&w->tcp_addr[0]);
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);

	say(waiting, "GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
	say(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	hear(idle, OK_TEXT(1, "/"));
	say(fd, "POST /free HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		"1\r\na\r\n1\r\nb\r\n");
	hear_reset(fd);
	hear_reset(waiting);
	hear_eof(idle);
}

START_TEST(free_within_a_handler)
{
	run(&plain, free_client);
	ck_assert_int_eq(seen.closed_broken, 2);
	ck_assert_int_eq(seen.closed_whole, 1);
}
END_TEST

static void late_client(struct world *w)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);

	say(fd, "GET /never HTTP/1.1\r\nHost: a\r\n\r\n");
	say(fd, "GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
	while (__atomic_load_n(&seen.open, __ATOMIC_ACQUIRE) == NULL)
		poll(NULL, 0, 1);
	uv_async_send(&w->call);
	hear(fd, OK_TEXT(4, "late"));
	hear(fd, OK_TEXT(5, "/next"));
}

static void late_call(struct world *w)
{
	(void)w;
	http_reply(seen.open, 200, NULL, "text/plain", "late", 4);
}

START_TEST(late_reply)
{
	world_init(&world);
	world.called = late_call;
	world_serve(&world, &plain);
	world_run(&world, late_client);
	ck_assert_int_eq(seen.closed_whole, 2);
}
END_TEST

static void tunnel_client(struct world *w)
{
	auto_close int fd = dial_unix(&w->unix_addr);

	say(fd, "GET /tunnel HTTP/1.1\r\nHost: a\r\nConnection: x, upgrade\r\nUpgrade: echo\r\n\r\n"
		"early");
	hear(fd,
	     "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
	hear(fd, "early");
	say(fd, "GET / HTTP/1.1");
	hear(fd, "GET / HTTP/1.1");
}

START_TEST(upgrade_takes_the_connection)
{
	run(&plain, tunnel_client);
	ck_assert_int_eq(seen.closed_whole + seen.closed_broken, 0);
}
END_TEST

static void old_client(struct world *w)
{
	auto_close int a = dial_tcp(&w->tcp_addr[0]);
	auto_close int b = dial_tcp(&w->tcp_addr[0]);

	say(a, "GET /x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	hear(a, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n"
		"Connection: keep-alive\r\n\r\n/x");
	say(a, "GET /y HTTP/1.0\r\n\r\n");
	hear(a, OK_CLOSE(2, "/y"));
	hear_eof(a);
	say(b, "POST /echo HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
	hear(b, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
	hear_eof(b);
}

START_TEST(http_1_0)
{
	run(&plain, old_client);
	ck_assert_int_eq(seen.closed_whole, 3);
}
END_TEST

static void bodyless_client(struct world *w)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);

	say(fd, "HEAD /abc HTTP/1.1\r\nHost: a\r\n\r\nGET /204 HTTP/1.1\r\nHost: a\r\n\r\n"
		"GET /304 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /echo HTTP/1.1\r\nHost: a\r\n\r\n"
		"GET /bad-field HTTP/1.1\r\nHost: a\r\n\r\n");
	hear(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n"
		 "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 304 Not Modified\r\n\r\n"
		 "HTTP/1.1 200 OK\r\n\r\n"
		 "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n"
		 "Connection: close\r\n\r\n");
	hear_eof(fd);
}

START_TEST(replies_without_body)
{
	run(&plain, bodyless_client);
	ck_assert_int_eq(seen.closed_whole, 5);
}
END_TEST

static void expect_client(struct world *w)
{
	auto_close int a = dial_tcp(&w->tcp_addr[0]);
	auto_close int b = dial_tcp(&w->tcp_addr[0]);
	const char *fields = "Host: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";

	say(a, "POST /collect HTTP/1.1\r\n");
	say(a, fields);
	hear(a, "HTTP/1.1 100 Continue\r\n\r\n");
	say(a, "hi");
	hear(a, OK_TEXT(2, "hi"));
	say(b, "POST /no HTTP/1.1\r\n");
	say(b, fields);
	hear(b, OK_CLOSE(3, "/no"));
	hear_eof(b);
}

START_TEST(expect_continue)
{
	run(&plain, expect_client);
	ck_assert_str_eq(seen.body, "hi");
}
END_TEST

static void refused(struct world *w, const char *request, int status)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);
	auto_buf in = BUF_INIT(1 << 20);
	auto_buf body = BUF_INIT(1 << 20);
	char want[32];

	say(fd, request);
	ck_assert_int_eq(hear_response(fd, "POST", &in, &body), status);
	snprintf(want, sizeof(want), "{\"code\":%d,\"message\":\"", status);
	ck_assert_msg(str_starts(buf_str(&body), want), "%s", buf_str(&body));
	ck_assert_uint_eq(in.len, 0);
	hear_eof(fd);
}

static void malformed_client(struct world *w)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);
	auto_buf huge = BUF_INIT(1 << 20);

	refused(w, "GET / HTTP/1.1\r\nHo st: \"a\"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400);
	refused(w, "GET / HTTP/2.0\r\n\r\n", 505);
	refused(w, "GET / HTTP/1.1\r\nA: b\r\n\r\n", 400);
	refused(w, "POST /collect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
		400);
	ck_assert_int_eq(buf_puts(&huge, "GET / HTTP/1.1\r\nX: "), 0);
	while (huge.len < 100000)
		ck_assert_int_eq(buf_puts(&huge, "xxxxxxxxxxxxxxxxxxx"), 0);
	refused(w, buf_str(&huge), 431);
	/* a handler that streams is told that the end is missing */
	say(fd, "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n");
	hear_reset(fd);
}

START_TEST(malformed)
{
	run(&plain, malformed_client);
	ck_assert_int_eq(seen.closed_broken, 1);
}
END_TEST

static void on_malformed(struct http_exchange *x, int status, const char *why, void *arg)
{
	ck_assert_str_eq(arg, "arg");
	ck_assert_str_ne(why, "");
	ck_assert_str_eq(http_exchange_head(x)->path, "");
	http_reply(x, status, NULL, "text/plain", "ours", 4);
}

static void ours_client(struct world *w)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);

	say(fd, "nonsense\r\n\r\n");
	hear(fd, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n"
		 "Connection: close\r\n\r\nours");
	hear_eof(fd);
}

START_TEST(malformed_by_hook)
{
	char arg[] = "arg";
	struct http_server_config config = plain;

	config.on_malformed = on_malformed;
	config.arg = arg;
	run(&config, ours_client);
}
END_TEST

static void too_large_client(struct world *w)
{
	auto_buf huge = BUF_INIT(2 << 20);

	refused(w, "POST /collect HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", 413);
	/* much more is on its way when the answer is written: it must arrive all the same */
	ck_assert_int_eq(buf_puts(&huge, "POST /collect HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: "
					 "chunked\r\n\r\n"),
			 0);
	while (huge.len < 1000000)
		ck_assert_int_eq(buf_puts(&huge, "10\r\n0123456789abcdef\r\n"), 0);
	refused(w, buf_str(&huge), 413);
}

START_TEST(too_large_to_collect)
{
	run(&plain, too_large_client);
	ck_assert_str_eq(seen.body, "");
	ck_assert_int_eq(seen.closed_whole, 2);
}
END_TEST

static void say_body(int fd, size_t n)
{
	static const char zeros[4096];

	for (; n > 0; n -= MIN(n, sizeof(zeros)))
		ck_assert_int_eq(fd_write_all(fd, zeros, MIN(n, sizeof(zeros))), 0);
}

static void unread_client(struct world *w)
{
	auto_close int a = dial_tcp(&w->tcp_addr[0]);
	auto_close int b = dial_tcp(&w->tcp_addr[0]);

	say(a, "POST /small HTTP/1.1\r\nHost: a\r\nContent-Length: 65536\r\n\r\n");
	hear(a, OK_TEXT(6, "/small"));
	say_body(a, 65536);
	say(a, "POST /early HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	hear(a, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
	say(a, "2\r\nde\r\n0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n");
	hear(a, OK_TEXT(5, "/next"));
	say(b, "POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 655360\r\n\r\n");
	say_body(b, 655360);
	hear(b, OK_CLOSE(6, "/large"));
	hear_eof(b);
}

START_TEST(unread_body)
{
	run(&plain, unread_client);
	ck_assert_int_eq(seen.closed_whole, 4);
}
END_TEST

static void timeout_client(struct world *w)
{
	auto_close int idle = dial_tcp(&w->tcp_addr[0]);
	auto_close int slow = dial_tcp(&w->tcp_addr[0]);
	auto_close int busy = dial_tcp(&w->tcp_addr[0]);

	say(busy, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n");
	say(slow, "GET / HT");
	hear_eof(idle);
	hear_eof(slow);
	say(busy, "x");
	hear(busy, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx");
}

START_TEST(timeouts)
{
	const struct http_server_config config = {
		.handler = handler,
		.idle_timeout_ms = 50,
		.head_timeout_ms = 60,
	};

	run(&config, timeout_client);
	ck_assert_int_eq(seen.closed_whole, 1);
}
END_TEST

static void deaf_client(struct world *w)
{
	auto_close int deaf = dial_tcp(&w->tcp_addr[0]);
	auto_close int deaf_at_once = dial_unix(&w->unix_addr);
	struct pollfd p = { .fd = deaf, .events = 0 };

	say(deaf_at_once, "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
	say(deaf, "GET /flood HTTP/1.1\r\nHost: a\r\n\r\n");
	hear(deaf, "HTTP/1.1 200 OK\r\n");
	ck_assert_int_eq(poll(&p, 1, 30000), 1);
	ck_assert(p.revents & POLLERR);
	p.fd = deaf_at_once;
	ck_assert_int_eq(poll(&p, 1, 30000), 1);
	ck_assert(p.revents & POLLHUP);
}

START_TEST(deaf_peers_are_reset)
{
	const struct http_server_config config = { .handler = handler, .write_timeout_ms = 50 };

	run(&config, deaf_client);
	ck_assert_int_eq(seen.closed_broken, 2);
}
END_TEST

START_TEST(a_slow_reader_is_not_deaf)
{
	const struct http_server_config config = { .handler = handler, .write_timeout_ms = 20000 };

	run(&config, big_client);
	ck_assert_int_eq(seen.closed_whole, 2);
}
END_TEST

/* Served from a handler of the loop; the client's ends are made before. */
static int served[2][2];
static int serve_result[2];

static void serve_two(struct world *w)
{
	for (size_t i = 0; i < ARRAY_SIZE(served); i++)
		serve_result[i] = http_server_serve_fd(w->servers[0], served[i][1]);
}

static void served_client(struct world *w)
{
	auto_close int first = served[0][0];
	auto_close int second = served[1][0];

	uv_async_send(&w->call);
	hear_eof(second); /* one more than the most */
	say(first, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	hear(first, OK_TEXT(1, "/"));
	ck_assert_int_eq(serve_result[0], 0);
	ck_assert_int_eq(serve_result[1], -EUSERS);
	ck_assert_int_eq(seen.uid, -1);
}

START_TEST(accepted_elsewhere)
{
	const struct http_server_config config = {
		.handler = handler,
		.max_connections = 1,
		.remote = true,
	};

	for (size_t i = 0; i < ARRAY_SIZE(served); i++)
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, served[i]), 0);
	world_init(&world);
	world.called = serve_two;
	world_serve(&world, &config);
	world_run(&world, served_client);
	ck_assert_int_eq(seen.closed_whole, 1);
}
END_TEST

static void close_idle(struct world *w)
{
	http_server_close_idle(w->servers[0]);
}

static void idle_client(struct world *w)
{
	auto_close int idle = dial_tcp(&w->tcp_addr[0]);
	auto_close int busy = dial_tcp(&w->tcp_addr[0]);
	auto_close int third = -1;

	say(busy, "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx");
	hear(busy, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nx");
	say(idle, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
	hear(idle, OK_TEXT(1, "/"));
	third = dial_tcp(&w->tcp_addr[0]);
	hear_eof(third); /* one more than the most */
	uv_async_send(&w->call);
	hear_eof(idle);
	say(busy, "y");
	hear(busy, "y");
}

START_TEST(close_idle_and_limit)
{
	const struct http_server_config config = { .handler = handler, .max_connections = 2 };

	world_init(&world);
	world.called = close_idle;
	world_serve(&world, &config);
	world_run(&world, idle_client);
	ck_assert_int_eq(seen.closed_whole, 2);
}
END_TEST

enum { STREAMS = 200 };

static void streams_client(struct world *w)
{
	int fds[STREAMS];

	for (int i = 0; i < STREAMS; i++) {
		fds[i] = i % 2 != 0 ? dial_unix(&w->unix_addr) : dial_tcp(&w->tcp_addr[0]);
		say(fds[i], "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
	}
	for (int round = 0; round < 10; round++) {
		for (int i = 0; i < STREAMS; i++)
			say(fds[i], "4\r\nping\r\n");
	}
	for (int i = 0; i < STREAMS; i++) {
		hear(fds[i], "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
		for (int round = 0; round < 10; round++)
			hear(fds[i], "4\r\nping\r\n");
	}
	for (int i = 0; i < STREAMS; i++) {
		if (i % 4 != 0) {
			say(fds[i], "0\r\n\r\n");
			hear(fds[i], "0\r\n\r\n");
		}
		fd_close(&fds[i]);
	}
}

START_TEST(many_streams)
{
	run(&plain, streams_client);
	ck_assert_int_eq(seen.closed_whole, STREAMS / 4 * 3);
	ck_assert_int_eq(seen.closed_broken, STREAMS / 4);
}
END_TEST

enum { IDLE = 1000 };

static size_t heap_bytes(void)
{
	return mallinfo2().uordblks;
}

static size_t heap_before;
static size_t heap_idle;

static void measure(struct world *w)
{
	(void)w;
	heap_idle = heap_bytes();
}

static void idle_streams_client(struct world *w)
{
	static int fds[IDLE];

	for (int i = 0; i < IDLE; i++) {
		fds[i] = dial_unix(&w->unix_addr);
		say(fds[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
		hear(fds[i], OK_TEXT(1, "/"));
	}
	uv_async_send(&w->call);
	for (int i = 0; i < IDLE; i++) {
		say(fds[i], "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
		hear(fds[i], OK_TEXT(1, "/"));
		fd_close(&fds[i]);
	}
}

START_TEST(idle_connections_are_small)
{
	const struct rlimit files = { 4096, 4096 };

	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
	world_init(&world);
	world.called = measure;
	world_serve(&world, &plain);
	heap_before = heap_bytes();
	world_run(&world, idle_streams_client);
	ck_assert_int_eq(seen.closed_whole, 2 * IDLE);
	ck_assert_uint_lt((heap_idle - heap_before) / IDLE, 1500);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_server");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_test(t, keep_alive);
	tcase_add_test(t, pipelining);
	tcase_add_test(t, chunked_both_ways);
	tcase_add_test(t, slow_reader);
	tcase_add_test(t, client_vanishes);
	tcase_add_test(t, client_vanishes_behind_a_pause);
	tcase_add_test(t, half_close_behind_answered_requests);
	tcase_add_test(t, abort_resets);
	tcase_add_test(t, free_within_a_handler);
	tcase_add_test(t, late_reply);
	tcase_add_test(t, upgrade_takes_the_connection);
	tcase_add_test(t, http_1_0);
	tcase_add_test(t, replies_without_body);
	tcase_add_test(t, expect_continue);
	tcase_add_test(t, malformed);
	tcase_add_test(t, malformed_by_hook);
	tcase_add_test(t, too_large_to_collect);
	tcase_add_test(t, unread_body);
	tcase_add_test(t, timeouts);
	tcase_add_test(t, deaf_peers_are_reset);
	tcase_add_test(t, a_slow_reader_is_not_deaf);
	tcase_add_test(t, accepted_elsewhere);
	tcase_add_test(t, close_idle_and_limit);
	tcase_add_test(t, many_streams);
	tcase_add_test(t, idle_connections_are_small);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
