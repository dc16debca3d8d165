/* SPDX-License-Identifier: Apache-2.0 */
#include "http/proxy.h"

#include "http/server-internal.h"
#include "http_harness.h"

/*
 * Server 0 proxies; server 1 is an upstream that echoes. In most tests the client is the upstream,
 * too, with plain sockets, so that each byte and its time are the test's.
 */
static struct world world;
static struct proxy_group groups[2];
static struct sockaddr_in upstream_addr;
static struct proxy_spec spec;

static struct {
	int fail_code;
	int fails;
	int done;
	size_t queued_max;
} seen;

static void on_fail(struct http_exchange *x, int code, void *arg)
{
	char text[16];

	ck_assert_ptr_eq(arg, &seen);
	seen.fails++;
	seen.fail_code = code;
	snprintf(text, sizeof(text), "%d", code);
	http_reply(x, 502, NULL, NULL, text, strlen(text));
}

static void on_done(void *arg)
{
	ck_assert_ptr_eq(arg, &seen);
	seen.done++;
}

/* /1... belongs to the second group. */
static void proxy_handler(struct http_exchange *x, void *arg)
{
	struct proxy_spec s = spec;

	(void)arg;
	s.addr = upstream_addr;
	s.group = &groups[str_starts(http_exchange_head(x)->path, "/1")];
	s.on_fail = on_fail;
	s.on_done = on_done;
	s.arg = &seen;
	proxy_start(&world.loop, x, &s);
}

static void echo_data(struct http_exchange *x, const char *p, size_t n, void *arg)
{
	(void)arg;
	http_reply_write(x, p, n);
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
};

static void echo_handler(struct http_exchange *x, void *arg)
{
	const struct http_head *h = http_exchange_head(x);
	bool known = h->body == HTTP_BODY_LENGTH;

	(void)arg;
	http_exchange_bind(x, &echo_events, NULL);
	http_body_stream(x);
	http_reply_start(x, 200, NULL, known ? (int64_t)h->content_length : -1);
}

static const struct http_server_config proxying = { .handler = proxy_handler };
static const struct http_server_config echoing = { .handler = echo_handler };

static void setup(void)
{
	world_init(&world);
	world_serve(&world, &proxying);
	world_serve(&world, &echoing);
	upstream_addr = world.tcp_addr[1];
}

static void run(void (*client)(struct world *w))
{
	world_run(&world, client);
	ck_assert_ptr_null(groups[0].first);
	ck_assert_ptr_null(groups[1].first);
	ck_assert_uint_eq(groups[0].n + groups[1].n, 0);
}

/* Makes the client the upstream. Return: the listening socket. */
static int be_upstream(void)
{
	int fd = listen_tcp(&upstream_addr, 64);
	int small = 65536;

	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	return fd;
}

static int pick_up(int listening)
{
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	return fd;
}

#define GET(path)    "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define UP_GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
#define OK_LENGTH(n) "HTTP/1.1 200 OK\r\nContent-Length: " #n "\r\n\r\n"
#define OK_CHUNKED   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
#define REPLY_502(n) "HTTP/1.1 502 Bad Gateway\r\nContent-Length: " #n "\r\n\r\n"

static void headers_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int fd = dial_unix(&w->unix_addr);
	auto_close int up = -1;

	say(fd, "POST /p?q=%20 HTTP/1.1\r\nX-One: 1\r\nConnection: keep-alive, X-Hop\r\nHost: a\r\n"
		"X-Hop: gone\r\nKeep-Alive: 5\r\nTE: trailers\r\nSecret: s\r\nx-two: \xc3\xa4\r\n"
		"Expect: 100-continue\r\nContent-Length: 2\r\nX-One: again\r\n\r\n");
	up = pick_up(listening);
	hear(fd, "HTTP/1.1 100 Continue\r\n\r\n");
	hear(up, "POST /p?q=%20 HTTP/1.1\r\nHost: guest:80\r\nX-One: 1\r\nx-two: \xc3\xa4\r\n"
		 "X-One: again\r\nContent-Length: 2\r\nConnection: close\r\n\r\n");
	say(fd, "hi");
	hear(up, "hi");
	say(up, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
		"HTTP/1.1 404 Nope\r\nConnection: close, x-hop\r\nX-Hop: gone\r\nSet-Cookie: a\r\n"
		"Set-Cookie: b\r\nContent-Length: 3\r\nKeep-Alive: 1\r\n\r\nabc");
	hear(fd, "HTTP/1.1 404 Not Found\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nX-Ours: 1\r\n"
		 "Content-Length: 3\r\n\r\nabc");
	hear_eof(up);
}

START_TEST(headers)
{
	static const char *const drop[] = { "secret", NULL };
	static const struct http_field more[] = { { "X-Ours", "1" },
						  { "set-cookie", "the upstream's counts" },
						  { NULL, NULL } };

	spec.reply_fields = more;
	spec.host = "guest:80";
	spec.drop_headers = drop;
	run(headers_client);
	ck_assert_int_eq(seen.done, 1);
}
END_TEST

static void framing_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);
	auto_close int up = -1;

	say(fd, "HEAD /h HTTP/1.1\r\nHost: a\r\n\r\n");
	up = pick_up(listening);
	hear(up, "HEAD /h HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
	say(up, OK_LENGTH(7));
	hear(fd, OK_LENGTH(7));
	fd_close(&up);

	say(fd, GET("/204"));
	up = pick_up(listening);
	say(up, "HTTP/1.1 204 No Content\r\n\r\n");
	hear(fd, "HTTP/1.1 204 No Content\r\n\r\n");
	fd_close(&up);

	say(fd, GET("/eof"));
	up = pick_up(listening);
	hear(up, UP_GET("/eof"));
	say(up, "HTTP/1.0 200 OK\r\n\r\nuntil");
	hear(fd, OK_CHUNKED "5\r\nuntil\r\n");
	say(up, "the end");
	hear(fd, "7\r\nthe end\r\n");
	fd_close(&up);
	hear(fd, "0\r\n\r\n");

	say(fd, GET("/zero"));
	up = pick_up(listening);
	say(up, OK_LENGTH(0));
	hear(fd, OK_LENGTH(0));
}

START_TEST(framing)
{
	run(framing_client);
	ck_assert_int_eq(seen.done, 4);
	ck_assert_int_eq(seen.fails, 0);
}
END_TEST

static void chunked_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int fd = dial_unix(&w->unix_addr);
	auto_close int up = -1;

	say(fd, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	up = pick_up(listening);
	hear(up, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
		 "Connection: close\r\n\r\n3\r\nabc\r\n");
	say(up, OK_CHUNKED "2\r\nxy\r\n");
	hear(fd, OK_CHUNKED "2\r\nxy\r\n");
	say(fd, "1\r\nd\r\n0\r\n\r\n");
	hear(up, "1\r\nd\r\n0\r\n\r\n");
	say(up, "1\r\nz\r\n0\r\n\r\n");
	hear(fd, "1\r\nz\r\n0\r\n\r\n");
	say(fd, GET("/again"));
	fd_close(&up);
	up = pick_up(listening);
	hear(up, UP_GET("/again"));
	say(up, OK_LENGTH(0));
	hear(fd, OK_LENGTH(0));
}

START_TEST(chunked_both_ways)
{
	run(chunked_client);
	ck_assert_int_eq(seen.done, 2);
}
END_TEST

static const size_t big = 16 << 20;

/* Twice what the sockets on the way may hold (tcp_rmem). */
static const size_t huge = 192 << 20;

/* An upstream that does not read stops the client, and the other way round. */
static void stall_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int fd = dial_unix(&w->unix_addr);
	auto_close int up = -1;
	size_t sent;

	say(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 201326592\r\n\r\n");
	up = pick_up(listening);
	hear(up, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 201326592\r\n"
		 "Connection: close\r\n\r\n");
	sent = say_until_stalled(fd, huge);
	ck_assert_uint_lt(sent, huge / 2);
	pump(fd, up, sent, huge);
	say(up, OK_LENGTH(201326592));
	hear(fd, OK_LENGTH(201326592));
	sent = say_until_stalled(up, huge);
	ck_assert_uint_lt(sent, huge / 2);
	pump(up, fd, sent, huge);
}

START_TEST(back_pressure_both_ways)
{
	run(stall_client);
	ck_assert_int_eq(seen.done, 1);
}
END_TEST

static void echo_client(struct world *w)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);

	say(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 16777216\r\n\r\n");
	hear(fd, OK_LENGTH(16777216));
	pump(fd, fd, 0, big);
}

START_TEST(echo)
{
	run(echo_client);
	ck_assert_uint_le(seen.queued_max, HTTP_OUTPUT_HIGH + HTTP_READ_BYTES + 64);
	ck_assert_int_eq(seen.done, 1);
}
END_TEST

static void refused_client(struct world *w)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);
	auto_close int bound = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(upstream_addr);

	upstream_addr.sin_port = 0;
	ck_assert_int_eq(bind(bound, (struct sockaddr *)&upstream_addr, len), 0);
	ck_assert_int_eq(getsockname(bound, (struct sockaddr *)&upstream_addr, &len), 0);
	say(fd, GET("/"));
	hear(fd, REPLY_502(3) "111");
	ck_assert_int_eq(seen.fail_code, ECONNREFUSED);
	say(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc");
	hear(fd, REPLY_502(3) "111");
	/* an address to which there is no way is found out before anything is sent */
	upstream_addr.sin_addr.s_addr = htonl(INADDR_BROADCAST);
	say(fd, GET("/"));
	hear(fd, "HTTP/1.1 502 Bad Gateway\r\n");
}

START_TEST(upstream_refuses)
{
	run(refused_client);
	ck_assert_int_eq(seen.fails, 3);
	ck_assert_int_eq(seen.done, 3);
}
END_TEST

static void timeout_client(struct world *w)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);
	auto_close int listening = listen_tcp(&upstream_addr, 0);
	auto_close int filler = dial_tcp(&upstream_addr);

	(void)listening;
	(void)filler;
	say(fd, GET("/"));
	hear(fd, REPLY_502(3) "110");
}

START_TEST(connect_timeout)
{
	spec.connect_timeout_ms = 50;
	run(timeout_client);
	ck_assert_int_eq(seen.fail_code, ETIMEDOUT);
	ck_assert_int_eq(seen.done, 1);
}
END_TEST

static void headless_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);
	auto_close int up = -1;

	say(fd, GET("/"));
	up = pick_up(listening);
	hear(up, UP_GET("/"));
	fd_close(&up);
	hear(fd, REPLY_502(3) "104");
	ck_assert_int_eq(seen.fail_code, ECONNRESET);

	/* with a body under way */
	say(fd, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
	up = pick_up(listening);
	hear(up, "POST / HTTP/1.1\r\n");
	say(up, "HTTP/1.1 2");
	fd_close(&up);
	hear(fd, REPLY_502(3) "104");
	say(fd, "3\r\nabc\r\n0\r\n\r\n");

	say(fd, GET("/"));
	up = pick_up(listening);
	hear(up, UP_GET("/"));
	say(up, "SSH-2.0-x\r\n");
	hear(fd, REPLY_502(2) "71");
	ck_assert_int_eq(seen.fail_code, EPROTO);
}

START_TEST(upstream_without_head)
{
	run(headless_client);
	ck_assert_int_eq(seen.fails, 3);
	ck_assert_int_eq(seen.done, 3);
}
END_TEST

static void broken_response(struct world *w, int listening, const char *response)
{
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);
	auto_close int up = -1;

	say(fd, GET("/"));
	up = pick_up(listening);
	hear(up, UP_GET("/"));
	say(up, response);
	hear(fd, "HTTP/1.1 200 OK\r\n");
	fd_close(&up);
	hear_reset(fd);
}

static void broken_client(struct world *w)
{
	auto_close int listening = be_upstream();

	broken_response(w, listening, OK_LENGTH(10) "four");
	broken_response(w, listening, OK_CHUNKED "4\r\nfour\r\n");
}

START_TEST(upstream_breaks_later)
{
	run(broken_client);
	ck_assert_int_eq(seen.fails, 0);
	ck_assert_int_eq(seen.done, 2);
}
END_TEST

static void vanish_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int fd = dial_unix(&w->unix_addr);
	auto_close int up = -1;

	say(fd, GET("/"));
	up = pick_up(listening);
	hear(up, UP_GET("/"));
	fd_close(&fd);
	hear_reset(up);
	fd_close(&up);

	fd = dial_unix(&w->unix_addr);
	say(fd, GET("/"));
	up = pick_up(listening);
	hear(up, UP_GET("/"));
	say(up, OK_LENGTH(10) "four");
	hear(fd, OK_LENGTH(10) "four");
	fd_close(&fd);
	hear_reset(up);
}

START_TEST(client_vanishes)
{
	run(vanish_client);
	ck_assert_int_eq(seen.fails, 0);
	ck_assert_int_eq(seen.done, 2);
}
END_TEST

/* The answer to a request that is not sent to its end. */
static void early_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);
	auto_close int up = -1;

	say(fd, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc");
	up = pick_up(listening);
	hear(up, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\nConnection: close\r\n\r\nabc");
	say(up, OK_LENGTH(2) "no");
	hear(fd, OK_LENGTH(2) "no");
	hear_eof(up);
	fd_close(&up);
	say(fd, "def" GET("/next"));
	up = pick_up(listening);
	hear(up, UP_GET("/next"));
	say(up, OK_LENGTH(0));
	hear(fd, OK_LENGTH(0));
}

START_TEST(early_answer)
{
	run(early_client);
	ck_assert_int_eq(seen.done, 2);
}
END_TEST

#define UPGRADE "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n"

static void tunnel_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int fd = dial_unix(&w->unix_addr);
	auto_close int up = -1;
	size_t sent;

	say(fd, "GET /t HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: k\r\n" UPGRADE "early");
	up = pick_up(listening);
	hear(up, "GET /t HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Key: k\r\n" UPGRADE);
	say(up, "HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: s\r\n" UPGRADE "soon");
	hear(fd, "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: s\r\n" UPGRADE "soon");
	hear(up, "early");
	say(up, "pong");
	hear(fd, "pong");
	sent = say_until_stalled(fd, huge);
	ck_assert_uint_lt(sent, huge / 2);
	pump(-1, up, sent, sent);
	say(fd, "last");
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	hear(up, "last");
	hear_eof(up);
	say(up, "still");
	hear(fd, "still");
	fd_close(&up);
	hear_eof(fd);
}

START_TEST(tunnel)
{
	run(tunnel_client);
	ck_assert_int_eq(seen.done, 1);
	ck_assert_int_eq(seen.fails, 0);
}
END_TEST

static void tunnel_reset_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int fd = dial_tcp(&w->tcp_addr[0]);
	struct linger hard = { .l_onoff = 1 };
	auto_close int up = -1;

	say(fd, "GET /t HTTP/1.1\r\nHost: a\r\n" UPGRADE);
	up = pick_up(listening);
	hear(up, "GET /t HTTP/1.1\r\nHost: a\r\n" UPGRADE);
	say(up, "HTTP/1.1 101 Yes\r\n" UPGRADE);
	hear(fd, "HTTP/1.1 101 Switching Protocols\r\n" UPGRADE);
	ck_assert_int_eq(setsockopt(up, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)), 0);
	fd_close(&up);
	hear_reset(fd);

	/* nobody asked for it */
	fd_close(&fd);
	fd = dial_tcp(&w->tcp_addr[0]);
	say(fd, GET("/"));
	up = pick_up(listening);
	hear(up, UP_GET("/"));
	say(up, "HTTP/1.1 101 Yes\r\n" UPGRADE);
	hear(fd, REPLY_502(2) "71");
}

START_TEST(tunnel_resets)
{
	run(tunnel_reset_client);
	ck_assert_int_eq(seen.done, 2);
}
END_TEST

static void abort_first(struct world *w)
{
	(void)w;
	ck_assert_uint_eq(groups[0].n, 4);
	ck_assert_uint_eq(groups[1].n, 1);
	proxy_abort_all(&groups[0], ESHUTDOWN);
	ck_assert_uint_eq(groups[0].n, 0);
}

static void abort_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int waiting = dial_tcp(&w->tcp_addr[0]);
	auto_close int streaming = dial_tcp(&w->tcp_addr[0]);
	auto_close int tunnelled = dial_tcp(&w->tcp_addr[0]);
	auto_close int sending = dial_tcp(&w->tcp_addr[0]);
	auto_close int other = dial_tcp(&w->tcp_addr[0]);
	int up[5];

	say(waiting, GET("/0"));
	up[0] = pick_up(listening);
	hear(up[0], UP_GET("/0"));
	say(streaming, GET("/0"));
	up[1] = pick_up(listening);
	hear(up[1], UP_GET("/0"));
	say(up[1], OK_LENGTH(9) "four");
	hear(streaming, OK_LENGTH(9) "four");
	say(tunnelled, "GET /0 HTTP/1.1\r\nHost: a\r\n" UPGRADE);
	up[2] = pick_up(listening);
	hear(up[2], "GET /0 HTTP/1.1\r\nHost: a\r\n" UPGRADE);
	say(up[2], "HTTP/1.1 101 Yes\r\n" UPGRADE);
	hear(tunnelled, "HTTP/1.1 101 Switching Protocols\r\n");
	say(sending, "POST /0 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n");
	up[3] = pick_up(listening);
	hear(up[3], "POST /0 HTTP/1.1\r\n");
	say(other, GET("/1"));
	up[4] = pick_up(listening);
	hear(up[4], UP_GET("/1"));

	uv_async_send(&w->call);
	hear(waiting, REPLY_502(3) "108");
	hear_reset(streaming);
	hear_reset(tunnelled);
	hear(sending, REPLY_502(3) "108");
	say(waiting, GET("/1")); /* the connection is as good as before */
	auto_close int next = pick_up(listening);
	hear(next, UP_GET("/1"));
	say(next, OK_LENGTH(2) "ok");
	hear(waiting, OK_LENGTH(2) "ok");
	for (int i = 0; i < 4; i++)
		hear_reset(up[i]);
	say(up[4], OK_LENGTH(2) "ok");
	hear(other, OK_LENGTH(2) "ok");
	for (int i = 0; i < 5; i++)
		fd_close(&up[i]);
}

START_TEST(abort_all_of_one_group)
{
	world.called = abort_first;
	run(abort_client);
	ck_assert_int_eq(seen.done, 6);
	ck_assert_int_eq(seen.fails, 2);
	ck_assert_int_eq(seen.fail_code, ESHUTDOWN);
}
END_TEST

static void reset_first(struct world *w)
{
	(void)w;
	proxy_abort_all(&groups[0], 0);
	ck_assert_uint_eq(groups[0].n, 0);
}

static void reset_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int waiting = dial_tcp(&w->tcp_addr[0]);
	auto_close int up = -1;

	say(waiting, GET("/0"));
	up = pick_up(listening);
	hear(up, UP_GET("/0"));
	uv_async_send(&w->call);
	hear_reset(waiting);
	hear_reset(up);
}

START_TEST(abort_all_without_answers)
{
	world.called = reset_first;
	run(reset_client);
	ck_assert_int_eq(seen.done, 1);
	ck_assert_int_eq(seen.fails, 0);
}
END_TEST

/* A response that is whole here but not yet with its client survives the end of the upstream. */
static void abort_ended(struct world *w)
{
	(void)w;
	ck_assert_uint_eq(groups[0].n, 1);
	proxy_abort_all(&groups[0], ESHUTDOWN);
	ck_assert_uint_eq(groups[0].n, 0);
}

/* More than a socket's buffer takes, less than what makes the proxy wait. */
enum { WHOLE = 262144 };

static void abort_ended_client(struct world *w)
{
	auto_close int listening = be_upstream();
	auto_close int fd = dial_unix(&w->unix_addr);
	auto_free char *body = malloc(WHOLE);
	auto_close int up = -1;
	char byte;

	memset(body, 'x', WHOLE);
	say(fd, GET("/0"));
	up = pick_up(listening);
	hear(up, UP_GET("/0"));
	say(up, OK_LENGTH(262144));
	ck_assert_int_eq(fd_write_all(up, body, WHOLE), 0);
	ck_assert_int_eq(read(up, &byte, 1), 0); /* the proxy has all of it */
	uv_async_send(&w->call);
	hear(fd, OK_LENGTH(262144));
	for (size_t n = 0; n < WHOLE;) {
		ssize_t r = read(fd, body, WHOLE - n);

		ck_assert_int_gt(r, 0);
		n += (size_t)r;
	}
}

START_TEST(abort_all_keeps_what_is_whole)
{
	world.called = abort_ended;
	run(abort_ended_client);
	ck_assert_int_eq(seen.done, 1);
	ck_assert_int_eq(seen.fails, 0);
}
END_TEST

static int drained;

static void on_drained(void *arg)
{
	ck_assert_ptr_eq(arg, &drained);
	drained++;
}

static void drain_first(struct world *w)
{
	(void)w;
	if (groups[0].on_drained == NULL)
		proxy_drain(&groups[0], on_drained, &drained);
	else
		proxy_drain_end(&groups[0]);
}

/* Opens a stream that has been asked of the upstream. */
static int open_stream(struct world *w, int listening, int *out_up)
{
	int fd = dial_tcp(&w->tcp_addr[0]);

	say(fd, GET("/0"));
	*out_up = pick_up(listening);
	hear(*out_up, UP_GET("/0"));
	return fd;
}

static void drain_client(struct world *w)
{
	auto_close int listening = be_upstream();
	int up[5];
	auto_close int known = open_stream(w, listening, &up[0]);
	auto_close int unknown = open_stream(w, listening, &up[1]);
	auto_close int waiting = open_stream(w, listening, &up[2]);
	auto_close int late = open_stream(w, listening, &up[3]);
	auto_close int never = open_stream(w, listening, &up[4]);

	say(up[0], OK_LENGTH(9) "four");
	hear(known, OK_LENGTH(9) "four");
	say(up[1], OK_CHUNKED "1\r\na\r\n");
	hear(unknown, OK_CHUNKED "1\r\na\r\n");
	uv_async_send(&w->call);
	hear_reset(unknown);
	hear_reset(up[1]);

	say(up[0], "-five");
	hear(known, "-five");
	say(up[2], OK_LENGTH(2) "ok");
	hear(waiting, OK_LENGTH(2) "ok");
	say(up[3], OK_CHUNKED "1\r\na\r\n"); /* its end is not in sight either */
	hear_reset(late);
	ck_assert_int_eq(drained, 0);
	uv_async_send(&w->call);
	hear(never, REPLY_502(3) "108"); /* ESHUTDOWN */
	hear_reset(up[4]);
	for (int i = 0; i < 5; i++)
		fd_close(&up[i]);
}

START_TEST(drain)
{
	world.called = drain_first;
	run(drain_client);
	ck_assert_int_eq(drained, 1);
	ck_assert_int_eq(seen.done, 5);
	ck_assert_int_eq(seen.fails, 1);
	proxy_drain(&groups[0], on_drained, &drained); /* of nothing */
	ck_assert_int_eq(drained, 2);
	ck_assert_ptr_null(groups[0].on_drained);
}
END_TEST

/* The server goes while streams are open in every state. */
static void left_open_client(struct world *w)
{
	auto_close int listening = be_upstream();
	int fds[3];
	int up[3];

	for (int i = 0; i < 3; i++) {
		fds[i] = dial_tcp(&w->tcp_addr[0]);
		say(fds[i], GET("/"));
		up[i] = pick_up(listening);
		hear(up[i], UP_GET("/"));
	}
	say(up[1], OK_CHUNKED "1\r\na\r\n");
	hear(fds[1], OK_CHUNKED);
	for (int i = 0; i < 3; i++) {
		fd_close(&fds[i]);
		fd_close(&up[i]);
	}
}

START_TEST(server_freed_with_streams)
{
	run(left_open_client);
	ck_assert_int_eq(seen.done, 3);
}
END_TEST

enum { STREAMS = 200 };

static void streams_client(struct world *w)
{
	int fds[STREAMS];

	for (int i = 0; i < STREAMS; i++) {
		fds[i] = dial_unix(&w->unix_addr);
		say(fds[i], "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
	}
	for (int i = 0; i < STREAMS; i++) {
		hear(fds[i], OK_CHUNKED);
		say(fds[i], "4\r\nping\r\n");
	}
	for (int i = 0; i < STREAMS; i++) {
		hear(fds[i], "4\r\nping\r\n");
		say(fds[i], "0\r\n\r\n");
	}
	for (int i = 0; i < STREAMS; i++) {
		hear(fds[i], "0\r\n\r\n");
		fd_close(&fds[i]);
	}
}

START_TEST(many_streams)
{
	run(streams_client);
	ck_assert_int_eq(seen.done, STREAMS);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_proxy");
	TCase *t = tcase_create("all");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_test(t, headers);
	tcase_add_test(t, framing);
	tcase_add_test(t, chunked_both_ways);
	tcase_add_test(t, back_pressure_both_ways);
	tcase_add_test(t, echo);
	tcase_add_test(t, upstream_refuses);
	tcase_add_test(t, connect_timeout);
	tcase_add_test(t, upstream_without_head);
	tcase_add_test(t, upstream_breaks_later);
	tcase_add_test(t, client_vanishes);
	tcase_add_test(t, early_answer);
	tcase_add_test(t, tunnel);
	tcase_add_test(t, tunnel_resets);
	tcase_add_test(t, abort_all_of_one_group);
	tcase_add_test(t, abort_all_without_answers);
	tcase_add_test(t, abort_all_keeps_what_is_whole);
	tcase_add_test(t, drain);
	tcase_add_test(t, server_freed_with_streams);
	tcase_add_test(t, many_streams);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
