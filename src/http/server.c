/* SPDX-License-Identifier: Apache-2.0 */
#include "http/server.h"

#include "base/fd.h"
#include "base/str.h"
#include "http/server-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

enum {
	IDLE_TIMEOUT_MS = 75000,
	HEAD_TIMEOUT_MS = 10000,
	CONNECTIONS_MAX = 4096,
	BACKLOG = 1024,
};

void server_unref(struct http_server *s)
{
	s->refs--;
	if (s->refs > 0)
		return;
	http_rbuf_unref(s->rbuf);
	free(s);
}

struct http_server *http_server_new(uv_loop_t *loop, const struct http_server_config *config)
{
	struct http_server *s = xcalloc(1, sizeof(*s));

	s->loop = loop;
	s->config = *config;
	s->config.idle_timeout_ms = config->idle_timeout_ms ?: IDLE_TIMEOUT_MS;
	s->config.head_timeout_ms = config->head_timeout_ms ?: HEAD_TIMEOUT_MS;
	s->config.max_connections = config->max_connections ?: CONNECTIONS_MAX;
	s->rbuf = http_rbuf_new();
	uv_idle_init(loop, &s->idle);
	s->idle.data = s;
	s->refs = 2; /* the owner's and the idle handle's */
	return s;
}

/* An unopened stream of the listener's kind, in memory of its own. */
static uv_stream_t *stream_like(const struct http_listener *l)
{
	uv_stream_t *stream;

	if (l->u.handle.type == UV_TCP) {
		stream = xcalloc(1, sizeof(uv_tcp_t));
		uv_tcp_init(l->server->loop, (uv_tcp_t *)stream); /* the socket comes with accept */
		return stream;
	}
	stream = xcalloc(1, sizeof(uv_pipe_t));
	uv_pipe_init(l->server->loop, (uv_pipe_t *)stream, 0);
	return stream;
}

static void on_connection(uv_stream_t *listening, int status)
{
	struct http_listener *l = listening->data;
	struct http_server *s = l->server;
	uv_stream_t *stream;

	if (status < 0)
		return; /* the peer gave up meanwhile, or we lack descriptors */
	stream = stream_like(l);
	if (uv_accept(listening, stream) < 0 || s->n_conns >= s->config.max_connections) {
		http_stream_close(stream);
		return;
	}
	conn_new(s, stream);
}

static void listener_closed(uv_handle_t *h)
{
	struct http_listener *l = h->data;

	server_unref(l->server);
	free(l);
}

/* Makes the stream that fits a socket in @u. The handle is there also after a failure. */
static int open_stream(uv_loop_t *loop, union http_socket *u, int fd)
{
	int domain = AF_UNSPEC;
	socklen_t len = sizeof(domain);
	int r;

	r = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) < 0 ? -errno : 0;
	if (domain == AF_INET || domain == AF_INET6) {
		uv_tcp_init(loop, &u->tcp);
		return r ?: uv_tcp_open(&u->tcp, fd);
	}
	uv_pipe_init(loop, &u->pipe, 0);
	return r ?: uv_pipe_open(&u->pipe, fd);
}

int http_server_listen_fd(struct http_server *s, int fd)
{
	auto_close int owned = fd;
	struct http_listener *l = xcalloc(1, sizeof(*l));
	int r;

	l->server = s;
	s->refs++;
	r = open_stream(s->loop, &l->u, owned);
	l->u.handle.data = l;
	if (r == 0) {
		take_fd(&owned); /* closed with the handle */
		r = uv_listen(&l->u.stream, BACKLOG, on_connection);
	}
	if (r < 0) {
		uv_close(&l->u.handle, listener_closed);
		return r;
	}
	l->next = s->listeners;
	s->listeners = l;
	return 0;
}

int http_server_serve_fd(struct http_server *s, int fd)
{
	auto_close int owned = fd;
	union http_socket *u;
	int r;

	if (s->n_conns >= s->config.max_connections)
		return -EUSERS;
	u = xcalloc(1, sizeof(*u));
	r = open_stream(s->loop, u, owned);
	if (r < 0) {
		http_stream_close(&u->stream);
		return r;
	}
	take_fd(&owned);
	conn_new(s, &u->stream);
	return 0;
}

void http_server_close_idle(struct http_server *s)
{
	struct http_conn *next;

	for (struct http_conn *c = s->conns; c != NULL; c = next) {
		next = c->next;
		if (c->state != CONN_OPEN)
			conn_close(c, false);
	}
}

static void idle_closed(uv_handle_t *h)
{
	server_unref(h->data);
}

void http_server_free(struct http_server *s)
{
	struct http_listener *next;

	for (struct http_listener *l = s->listeners; l != NULL; l = next) {
		next = l->next;
		uv_close(&l->u.handle, listener_closed);
	}
	s->listeners = NULL;
	while (s->conns != NULL) {
		if (s->conns->state == CONN_OPEN)
			conn_fail(s->conns);
		else
			conn_close(s->conns, false);
	}
	uv_close((uv_handle_t *)&s->idle, idle_closed);
	server_unref(s);
}
