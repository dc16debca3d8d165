/* SPDX-License-Identifier: Apache-2.0 */
#include "http/client.h"

#include "base/fd.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/un.h>

enum { RECEIVE_BYTES = 65536, BACKLOG_SLICE_US = 50000, CHUNK_EXTRA_BYTES = 24 };

/* Says in c->peer who the other side is. */
static void name_peer(struct http_client *c, const struct sockaddr *addr, socklen_t len)
{
	struct sockaddr_storage s = { 0 };
	const struct sockaddr_un *un = (const void *)&s;
	const struct sockaddr_in *in = (const void *)&s;
	const struct sockaddr_in6 *in6 = (const void *)&s;
	char ip[INET6_ADDRSTRLEN] = "?";
	int r = 0;

	memcpy(&s, addr, MIN((size_t)len, sizeof(s) - 1));
	switch (s.ss_family) {
	case AF_INET:
		inet_ntop(AF_INET, &in->sin_addr, ip, sizeof(ip));
		r = str_fit(c->peer, sizeof(c->peer), "%s:%d", ip, ntohs(in->sin_port));
		break;
	case AF_INET6:
		inet_ntop(AF_INET6, &in6->sin6_addr, ip, sizeof(ip));
		r = str_fit(c->peer, sizeof(c->peer), "[%s]:%d", ip, ntohs(in6->sin6_port));
		break;
	default:
		str_copy(c->peer, sizeof(c->peer), un->sun_path);
	}
	ignore_err(r); /* the array holds any address */
}

/*
 * A unix socket whose backlog is full gives nothing to poll for. A blocking connect() waits for
 * room inside the kernel, here in slices, so that deadline and cancellation are seen.
 */
static int connect_blocking(int fd, const struct sockaddr *addr, socklen_t len, int also_fd,
			    const struct op *op)
{
	struct pollfd also = { .fd = also_fd, .events = POLLIN };
	struct timeval slice = { .tv_usec = BACKLOG_SLICE_US };
	struct timeval none = { 0 };
	int r = fd_set_nonblock(fd, false);

	if (r == 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &slice, sizeof(slice)) < 0)
		r = -errno;
	while (r == 0 && connect(fd, addr, len) < 0) {
		if (errno != EAGAIN && errno != EINTR)
			return -errno;
		r = poll(&also, 1, 0) == 1 ? -ECONNABORTED : op_check(op);
	}
	if (r == 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof(none)) < 0)
		r = -errno;
	return r < 0 ? r : fd_set_nonblock(fd, true);
}

static int connect_fd(int fd, const struct sockaddr *addr, socklen_t len, int also_fd,
		      const struct op *op)
{
	socklen_t size = sizeof(int);
	int code = 0;
	int r;

	if (connect(fd, addr, len) == 0)
		return 0;
	if (errno == EAGAIN && addr->sa_family == AF_UNIX)
		return connect_blocking(fd, addr, len, also_fd, op);
	if (errno != EINPROGRESS)
		return -errno;
	r = op_wait_fd(op, fd, POLLOUT, also_fd);
	if (r < 0)
		return r;
	if (r == 2)
		return -ECONNABORTED;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &size) < 0)
		return -errno;
	return -code;
}

int http_client_connect(struct http_client *c, const struct sockaddr *addr, socklen_t len,
			int also_fd, struct op *op)
{
	auto_close int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;
	int r;

	if (fd < 0)
		return err_errno(&op->err, errno, "make a socket");
	name_peer(c, addr, len);
	/* Only a matter of speed: a head and its body must not wait for each other's acks. */
	if (addr->sa_family != AF_UNIX)
		ignore_err(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)));
	r = op_check(op);
	if (r == 0)
		r = connect_fd(fd, addr, len, also_fd, op);
	if (r < 0)
		return err_errno(&op->err, -r, "connect to %s", c->peer);
	c->fd = take_fd(&fd);
	c->also_fd = also_fd;
	c->reusable = true;
	return 0;
}

int http_client_connect_unix(struct http_client *c, const char *path, struct op *op)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r = str_fit(addr.sun_path, sizeof(addr.sun_path), "%s", path);

	if (r < 0)
		return err_errno(&op->err, -r, "connect to unix socket %s", path);
	return http_client_connect(c, (const struct sockaddr *)&addr, sizeof(addr), -1, op);
}

void http_client_done(struct http_client *c)
{
	fd_close(&c->fd);
	c->also_fd = -1;
	buf_done(&c->in);
	http_head_done(&c->head);
	c->body = (struct http_body){ 0 };
	c->reusable = false;
	c->sending = false;
}

/* Return: 1; -ECONNABORTED the other descriptor ended the wait; -errno. */
static int wait_for(const struct http_client *c, short events, const struct op *op)
{
	int r = op_wait_fd(op, c->fd, events, c->also_fd);

	return r == 2 ? -ECONNABORTED : r;
}

/* Return: 0 all was sent, or the server hung up; -errno. */
static int send_all(struct http_client *c, const void *p, size_t n, int flags, const struct op *op)
{
	const char *at = p;
	int r = op_check(op);

	while (r >= 0 && n > 0) {
		ssize_t sent = send(c->fd, at, n, flags | MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent >= 0) {
			at += sent;
			n -= (size_t)sent;
			r = op_check(op);
		} else if (errno == EAGAIN) {
			r = wait_for(c, POLLOUT, op);
		} else if (errno == EPIPE || errno == ECONNRESET) {
			return 0; /* http_client_head() reads the answer, or finds that there is
				     none */
		} else if (errno != EINTR) {
			r = -errno;
		}
	}
	return r < 0 ? r : 0;
}

/* Whether a request has a meaning for its body even if that is empty (RFC 9110 section 8.6). */
static bool expects_body(const char *method)
{
	return streq(method, "POST") || streq(method, "PUT") || streq(method, "PATCH");
}

/* @framing: says how long the body is; NULL = there is none. */
static int write_head(struct http_client *c, struct buf *out, const char *target,
		      const struct http_field *fields, const struct http_field *framing)
{
	struct http_field all[HTTP_HEADERS_MAX + 1] = { 0 };
	bool tcp = c->peer[0] != '\0' && strchr(c->peer, '/') == NULL;
	size_t n = 0;

	all[n++] = (struct http_field){ "Host", tcp ? c->peer : "localhost" };
	if (framing != NULL)
		all[n++] = *framing;
	for (; fields != NULL && fields->name != NULL; fields++) {
		if (n == HTTP_HEADERS_MAX)
			return -EMSGSIZE;
		all[n++] = *fields;
	}
	return http_write_request(out, c->method, target, all);
}

/* Makes the head of a request on a connection that is free for it. Return: 0; -errno, op->err
 * set */
static int begin(struct http_client *c, const char *method, struct op *op)
{
	if (c->fd < 0 || !c->reusable)
		return err_errno(&op->err, ENOTCONN, "connection to %s takes no request", c->peer);
	http_head_done(&c->head);
	if (str_fit(c->method, sizeof(c->method), "%s", method) < 0)
		return err_errno(&op->err, EINVAL, "write a request to %s", c->peer);
	return 0;
}

/* NOLINTNEXTLINE(readability-function-size): the parts of a request, as in the header */
int http_client_send(struct http_client *c, const char *method, const char *target,
		     const struct http_field *fields, const void *body, size_t n, struct op *op)
{
	char length[24];
	const struct http_field framing = { "Content-Length", length };
	auto_buf head = BUF_INIT(HTTP_HEAD_MAX);
	int r = begin(c, method, op);

	if (r < 0)
		return r;
	snprintf(length, sizeof(length), "%zu", n);
	r = write_head(c, &head, target, fields, n > 0 || expects_body(method) ? &framing : NULL);
	if (r < 0)
		return err_errno(&op->err, -r, "write a request to %s", c->peer);
	c->reusable = false;
	r = send_all(c, buf_head(&head), head.len, n > 0 ? MSG_MORE : 0, op);
	if (r == 0)
		r = send_all(c, body, n, 0, op);
	return r < 0 ? err_errno(&op->err, -r, "send to %s", c->peer) : 0;
}

int http_client_start(struct http_client *c, const char *method, const char *target,
		      const struct http_field *fields, struct op *op)
{
	static const struct http_field framing = { "Transfer-Encoding", "chunked" };
	auto_buf head = BUF_INIT(HTTP_HEAD_MAX);
	int r = begin(c, method, op);

	if (r < 0)
		return r;
	r = write_head(c, &head, target, fields, &framing);
	if (r < 0)
		return err_errno(&op->err, -r, "write a request to %s", c->peer);
	c->reusable = false;
	c->sending = true;
	r = send_all(c, buf_head(&head), head.len, 0, op);
	return r < 0 ? err_errno(&op->err, -r, "send to %s", c->peer) : 0;
}

/* Whether the server said something, be it by its end, that makes the rest of a body needless. */
static bool has_answered(const struct http_client *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

/* Sends a piece of a streamed body. Return: 0; 1 the server wants no more; -errno. */
static int send_streamed(struct http_client *c, const char *at, size_t n, const struct op *op)
{
	int r = op_check(op);

	while (r >= 0 && n > 0) {
		ssize_t sent;

		if (has_answered(c))
			return 1;
		sent = send(c->fd, at, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent >= 0) {
			at += sent;
			n -= (size_t)sent;
			r = op_check(op);
		} else if (errno == EAGAIN) {
			r = wait_for(c, POLLOUT | POLLIN, op);
		} else if (errno == EPIPE || errno == ECONNRESET) {
			return 1;
		} else if (errno != EINTR) {
			r = -errno;
		}
	}
	return r < 0 ? r : 0;
}

int http_client_write(struct http_client *c, const void *p, size_t n, struct op *op)
{
	auto_buf chunk = BUF_INIT(n + CHUNK_EXTRA_BYTES);
	int r = c->sending ? http_write_chunk(&chunk, p, n) : -ENOTCONN;

	if (r == 0)
		r = send_streamed(c, buf_head(&chunk), chunk.len, op);
	return r < 0 ? err_errno(&op->err, -r, "send to %s", c->peer) : r;
}

int http_client_finish(struct http_client *c, struct op *op)
{
	auto_buf last = BUF_INIT(CHUNK_EXTRA_BYTES);
	int r = c->sending ? http_write_last_chunk(&last) : -ENOTCONN;

	if (r == 0)
		r = send_streamed(c, buf_head(&last), last.len, op);
	if (r == 0)
		c->sending = false;
	return r < 0 ? err_errno(&op->err, -r, "send to %s", c->peer) : r;
}

/* Return: > 0 bytes were received; 0 the server closed the connection; -EAGAIN nothing is there yet
 * and @wait is false; -errno, op->err not set. */
static ssize_t receive(struct http_client *c, const struct op *op, bool wait)
{
	size_t size = MIN((size_t)RECEIVE_BYTES, buf_room(&c->in));
	char *room;
	int r = buf_reserve(&c->in, size, &room);

	if (r == 0 && wait)
		r = op_check(op);
	while (r >= 0) {
		ssize_t n = recv(c->fd, room, size, MSG_DONTWAIT);

		if (n >= 0) {
			buf_commit(&c->in, (size_t)n);
			return n;
		}
		if (errno == EAGAIN && wait)
			r = wait_for(c, POLLIN, op);
		else if (errno != EINTR)
			r = -errno;
	}
	return r;
}

/* The connection is free again once a body was read, unless the server sent more than that, or
 * answered before it had the whole request. */
static void settle(struct http_client *c)
{
	if (c->body.done)
		c->reusable = c->head.keep_alive && c->in.len == 0 && !c->sending;
}

int http_client_head(struct http_client *c, struct op *op)
{
	for (;;) {
		struct err why = { 0 };
		ssize_t n;
		int r = http_head_parse_response(&c->in, c->method, &c->head, &why);

		if (r < 0) {
			err_set(&op->err, ERR_SYSTEM, "reply of %s: %s", c->peer, why.msg);
			return r;
		}
		if (r > 0 && (c->head.status >= 200 || c->head.status == 101))
			break;
		if (r > 0) {
			http_head_done(&c->head);
			continue;
		}
		n = receive(c, op, true);
		if (n <= 0)
			return err_errno(&op->err, n < 0 ? (int)-n : ECONNRESET,
					 "wait for the reply of %s", c->peer);
	}
	http_body_init(&c->body, &c->head);
	settle(c);
	return 0;
}

/* Moves what was received of the body. Return: bytes appended; -errno with op->err set. */
static ssize_t take_body(struct http_client *c, struct buf *out, struct op *op)
{
	size_t total = 0;

	while (!c->body.done && c->in.len > 0 && (total == 0 || buf_room(out) > 0)) {
		/* With no room left one more byte is looked at, since it may be framing. */
		size_t n = MIN(c->in.len, MAX(buf_room(out), (size_t)1));
		const char *data;
		size_t used;
		size_t len;
		int r = http_body_next(&c->body, buf_head(&c->in), n, &used, &data, &len);

		if (r < 0)
			return err_errno(&op->err, -r, "read the body sent by %s", c->peer);
		r = buf_append(out, data, len);
		if (r < 0)
			return err_errno(&op->err, -r, "keep over %zu bytes of the body sent by %s",
					 out->max, c->peer);
		buf_consume(&c->in, used);
		total += len;
	}
	settle(c);
	return (ssize_t)total;
}

static ssize_t read_body(struct http_client *c, struct buf *out, struct op *op, bool wait)
{
	for (;;) {
		ssize_t n = take_body(c, out, op);

		if (n != 0 || c->body.done)
			return n;
		n = receive(c, op, wait);
		if (n == -EAGAIN)
			return n;
		if (n == 0 && (c->body.kind == HTTP_BODY_EOF || c->body.kind == HTTP_BODY_TUNNEL)) {
			c->body.done = true;
			return 0;
		}
		if (n <= 0)
			return err_errno(&op->err, n < 0 ? (int)-n : ECONNRESET,
					 "read the body sent by %s", c->peer);
	}
}

ssize_t http_client_read(struct http_client *c, struct buf *out, struct op *op)
{
	return read_body(c, out, op, true);
}

ssize_t http_client_read_ready(struct http_client *c, struct buf *out, struct op *op)
{
	return read_body(c, out, op, false);
}

int http_client_reply(struct http_client *c, struct buf *out, struct op *op)
{
	ssize_t r = http_client_head(c, op);

	if (r == 0 && c->body.kind != HTTP_BODY_TUNNEL) {
		do {
			r = http_client_read(c, out, op);
		} while (r > 0);
	}
	return r < 0 ? (int)r : c->head.status;
}

/* NOLINTNEXTLINE(readability-function-size): the parts of a request, as in the header */
int http_client_call(struct http_client *c, const char *method, const char *target,
		     const struct http_field *fields, const void *body, size_t n, struct buf *out,
		     struct op *op)
{
	int r = http_client_send(c, method, target, fields, body, n, op);

	if (r == 0)
		r = http_client_reply(c, out, op);
	if (r < 0)
		ignore_err(err_wrap(&op->err, "%s %s", method, target)); /* r says it */
	return r;
}
