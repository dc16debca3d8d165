/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A loop with servers in the thread of the test, and a client in blocking code in another. The
 * client owns the end: when it returns, everything is closed, and the loop must be empty.
 */
#pragma once

#include "base/fd.h"
#include "base/str.h"
#include "http/server.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { WORLD_SERVERS_MAX = 2 };

struct world {
	uv_loop_t loop;
	uv_async_t over;
	uv_async_t call; /* runs `called` on the loop for the client */
	void (*called)(struct world *w);
	struct http_server *servers[WORLD_SERVERS_MAX];
	size_t n_servers;
	struct sockaddr_un unix_addr;
	struct sockaddr_in tcp_addr[WORLD_SERVERS_MAX];
	void (*client)(struct world *w);
	pthread_t thread;
};

static inline void world_init(struct world *w)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };

	*w = (struct world){ 0 };
	ck_assert_int_eq(sigaction(SIGPIPE, &ignore, NULL), 0);
	ck_assert_int_eq(uv_loop_init(&w->loop), 0);
}

static inline int listen_tcp(struct sockaddr_in *out_addr, int backlog)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*out_addr);

	*out_addr = (struct sockaddr_in){ .sin_family = AF_INET };
	out_addr->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)out_addr, sizeof(*out_addr)), 0);
	ck_assert_int_eq(listen(fd, backlog), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)out_addr, &len), 0);
	return fd;
}

/* An abstract address that the kernel picks. */
static inline int listen_unix(struct sockaddr_un *out_addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(*out_addr);

	*out_addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	ck_assert_int_eq(bind(fd, (struct sockaddr *)out_addr, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(listen(fd, 1024), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)out_addr, &len), 0);
	ck_assert_uint_eq(len, sizeof(sa_family_t) + 6);
	return fd;
}

/* Adds a server on TCP; the first of them listens on a unix socket, too. */
static inline void world_serve(struct world *w, const struct http_server_config *config)
{
	struct http_server *s = http_server_new(&w->loop, config);

	if (w->n_servers == 0)
		ck_assert_int_eq(http_server_listen_fd(s, listen_unix(&w->unix_addr)), 0);
	ck_assert_int_eq(http_server_listen_fd(s, listen_tcp(&w->tcp_addr[w->n_servers], 1024)), 0);
	w->servers[w->n_servers++] = s;
}

static inline void *world_thread(void *arg)
{
	struct world *w = arg;

	w->client(w);
	uv_async_send(&w->over);
	return NULL;
}

static inline void world_over(uv_async_t *async)
{
	struct world *w = async->data;

	for (size_t i = 0; i < w->n_servers; i++) {
		if (w->servers[i] != NULL)
			http_server_free(w->servers[i]);
	}
	uv_close((uv_handle_t *)&w->over, NULL);
	uv_close((uv_handle_t *)&w->call, NULL);
}

static inline void world_call(uv_async_t *async)
{
	struct world *w = async->data;

	w->called(w);
}

/* Runs the loop until the client returned and everything is closed. */
static inline void world_run(struct world *w, void (*client)(struct world *w))
{
	w->client = client;
	w->over.data = w;
	w->call.data = w;
	ck_assert_int_eq(uv_async_init(&w->loop, &w->over, world_over), 0);
	ck_assert_int_eq(uv_async_init(&w->loop, &w->call, world_call), 0);
	ck_assert_int_eq(pthread_create(&w->thread, NULL, world_thread, w), 0);
	ck_assert_int_eq(uv_run(&w->loop, UV_RUN_DEFAULT), 0);
	ck_assert_int_eq(pthread_join(w->thread, NULL), 0);
	ck_assert_int_eq(uv_loop_close(&w->loop), 0);
}

/* For clients. */

static inline int dial_tcp(const struct sockaddr_in *addr)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int one = 1;

	ck_assert_int_eq(connect(fd, (const struct sockaddr *)addr, sizeof(*addr)), 0);
	ck_assert_int_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)), 0);
	return fd;
}

static inline int dial_unix(const struct sockaddr_un *addr)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(connect(fd, (const struct sockaddr *)addr, sizeof(sa_family_t) + 6), 0);
	return fd;
}

static inline void say(int fd, const char *text)
{
	ck_assert_int_eq(fd_write_all(fd, text, strlen(text)), 0);
}

/* Reads exactly what is expected. */
static inline void hear(int fd, const char *text)
{
	char got[8192];
	size_t n = strlen(text);
	ssize_t r;

	ck_assert_uint_lt(n, sizeof(got));
	r = fd_read_full(fd, got, n);
	ck_assert_msg(r >= 0, "read: %s, wanted: %s", strerror((int)-r), text);
	got[r] = '\0';
	ck_assert_str_eq(got, text);
}

/* Reads to the end. Return: bytes read; -errno (-ECONNRESET). */
static inline ssize_t hear_all(int fd, struct buf *out)
{
	for (;;) {
		char piece[8192];
		ssize_t r = read(fd, piece, sizeof(piece));

		if (r < 0)
			return -errno;
		if (r == 0)
			return (ssize_t)out->len;
		ck_assert_int_eq(buf_append(out, piece, (size_t)r), 0);
	}
}

static inline void hear_eof(int fd)
{
	char c;

	ck_assert_int_eq(read(fd, &c, 1), 0);
}

static inline void hear_reset(int fd)
{
	char piece[8192];
	ssize_t r;

	do
		r = read(fd, piece, sizeof(piece));
	while (r > 0);
	ck_assert_int_eq(r, -1);
	ck_assert_int_eq(errno, ECONNRESET);
}

/* Reads one response. Return: its status; the body is in @out. */
static inline int hear_response(int fd, const char *method, struct buf *in, struct buf *out)
{
	struct http_head h = { 0 };
	struct http_body body;
	struct err e = { 0 };
	char piece[8192];
	const char *data;
	size_t used;
	size_t len;
	int status;
	int r;

	for (;;) {
		r = http_head_parse_response(in, method, &h, &e);
		ck_assert_msg(r >= 0, "%s", e.msg);
		if (r == 1)
			break;
		r = (int)read(fd, piece, sizeof(piece));
		ck_assert_int_gt(r, 0);
		ck_assert_int_eq(buf_append(in, piece, (size_t)r), 0);
	}
	status = h.status;
	http_body_init(&body, &h);
	http_head_done(&h);
	while (!body.done) {
		ck_assert_int_eq(http_body_next(&body, buf_str(in), in->len, &used, &data, &len),
				 0);
		ck_assert_int_eq(buf_append(out, data, len), 0);
		buf_consume(in, used);
		if (used > 0)
			continue;
		r = (int)read(fd, piece, sizeof(piece));
		ck_assert_int_ge(r, 0);
		if (r == 0)
			break;
		ck_assert_int_eq(buf_append(in, piece, (size_t)r), 0);
	}
	return status;
}

/* Byte @i of a stream that shows lost and doubled pieces. */
static inline char pattern(size_t i)
{
	return (char)((i * 2654435761U) >> 13);
}

/* Sends a piece of the pattern as far as the socket takes it. Return: the position behind it. */
static inline size_t say_pattern(int fd, size_t at, size_t n)
{
	char piece[8192];
	size_t len = MIN(sizeof(piece), n - at);
	ssize_t r;

	for (size_t i = 0; i < len; i++)
		piece[i] = pattern(at + i);
	r = send(fd, piece, len, MSG_DONTWAIT);
	if (r < 0)
		ck_assert_int_eq(errno, EAGAIN);
	return r < 0 ? at : at + (size_t)r;
}

/* Reads a piece and compares it with the pattern. Return: the position behind it. */
static inline size_t hear_pattern(int fd, size_t at)
{
	char piece[8192];
	ssize_t r = read(fd, piece, sizeof(piece));

	ck_assert_int_gt(r, 0);
	for (ssize_t i = 0; i < r; i++, at++) {
		if (piece[i] != pattern(at))
			ck_abort_msg("byte %zu is wrong", at);
	}
	return at;
}

/* Sends up to @n until the peer takes no more for 100 ms. Return: the position. */
static inline size_t say_until_stalled(int fd, size_t n)
{
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	size_t at = 0;

	while (at < n && poll(&p, 1, 100) > 0)
		at = say_pattern(fd, at, n);
	return at;
}

/* Sends the pattern from @sent on into one socket, and reads @n bytes of it from the other. */
static inline void pump(int to, int from, size_t sent, size_t n)
{
	for (size_t got = 0; got < n;) {
		struct pollfd p[] = {
			{ .fd = from, .events = POLLIN },
			{ .fd = sent < n ? to : -1, .events = POLLOUT },
		};

		ck_assert_int_gt(poll(p, 2, 30000), 0);
		if (p[0].revents != 0)
			got = hear_pattern(from, got);
		if (p[1].revents != 0)
			sent = say_pattern(to, sent, n);
	}
}
