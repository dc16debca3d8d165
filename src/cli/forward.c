/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/forward.h"

#include "base/fd.h"
#include "base/parse.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 256, PIPE_BYTES = 65536, SWITCHED = 101 };

/* A connection; it lives until its thread ends. */
struct tie {
	struct forward *forward;
	int fd; /* accepted; owned */
	uint16_t there;
};

/* One direction: what was read of one side, for the other. */
struct way {
	int from;
	int to;
	struct buf held;
	bool eof;  /* of @from */
	bool shut; /* and @to was told */
};

/* How many there are; who waits for the last one is told. */
static pthread_mutex_t ties_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ties_gone = PTHREAD_COND_INITIALIZER;
static unsigned n_ties;

static bool tie_begin(void)
{
	bool room;

	pthread_mutex_lock(&ties_lock);
	room = n_ties < CONNECTIONS_MAX;
	n_ties += room;
	pthread_mutex_unlock(&ties_lock);
	return room;
}

static void tie_end(void)
{
	pthread_mutex_lock(&ties_lock);
	n_ties--;
	pthread_cond_signal(&ties_gone);
	pthread_mutex_unlock(&ties_lock);
}

/* Threads of connections see the eventfd and end by themselves: they are waited for, since they use
 * what is freed behind this. */
static void wait_for_ties(void)
{
	pthread_mutex_lock(&ties_lock);
	while (n_ties > 0)
		pthread_cond_wait(&ties_gone, &ties_lock);
	pthread_mutex_unlock(&ties_lock);
}

int forward_add(struct forward *f, const char *text)
{
	auto_free char *copy = str_dup(text);
	char *there = strrchr(copy, ':');
	char *here = copy;
	char *host = NULL;
	struct forward_port p = { .fd = -1 };
	uint64_t number;

	if (f->n == FORWARDS_MAX)
		return -E2BIG;
	if (there != NULL) {
		*there++ = '\0';
		host = strrchr(copy, ':');
	}
	if (host != NULL) {
		*host = '\0';
		here = host + 1;
		host = copy;
	}
	if (parse_u64(there != NULL ? there : copy, 1, UINT16_MAX, &number) < 0)
		return -EINVAL;
	p.there = p.here = (uint16_t)number;
	if (there != NULL && parse_u64(here, 0, UINT16_MAX, &number) < 0)
		return -EINVAL;
	p.here = (uint16_t)number;
	if (host != NULL && str_fit(p.host, sizeof(p.host), "%s", host) < 0)
		return -EINVAL;
	f->ports[f->n++] = p;
	return 0;
}

static int listen_one(struct forward_port *p, const char *bind_to, struct err *e)
{
	const char *host = p->host[0] != '\0' ? p->host : bind_to;
	struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(p->here) };
	socklen_t len = sizeof(addr);
	auto_close int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int one = 1;

	if (inet_pton(AF_INET, host, &addr.sin_addr) != 1)
		return err_set(e, ERR_INVALID, "'%s' is no IPv4 address of here", host);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) < 0 ||
	    bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0 || listen(fd, SOMAXCONN) < 0 ||
	    getsockname(fd, (struct sockaddr *)&addr, &len) < 0)
		return err_errno(e, errno, "listen on %s:%u", host, p->here);
	p->here = ntohs(addr.sin_port);
	str_copy(p->host, sizeof(p->host), host);
	p->fd = take_fd(&fd);
	return 0;
}

int forward_listen(struct forward *f, const char *bind_to, struct err *e)
{
	for (size_t i = 0; i < f->n; i++) {
		int r = listen_one(&f->ports[i], bind_to, e);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Reads if there is room and something, writes if something is held. Return: 0; -errno. */
static int way_step(struct way *w)
{
	char *room;

	if (!w->eof && buf_room(&w->held) > 0) {
		size_t want = buf_room(&w->held);
		ssize_t n = buf_reserve(&w->held, want, &room) < 0
				    ? -1
				    : recv(w->from, room, want, MSG_DONTWAIT);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		buf_commit(&w->held, (size_t)MAX(n, 0));
		w->eof = n == 0;
	}
	if (w->held.len > 0) {
		ssize_t n =
			send(w->to, buf_head(&w->held), w->held.len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
		buf_consume(&w->held, (size_t)MAX(n, 0));
	}
	if (w->eof && w->held.len == 0 && !w->shut) {
		w->shut = true;
		return shutdown(w->to, SHUT_WR) < 0 ? -errno : 0;
	}
	return 0;
}

static short events_of(const struct way *in, const struct way *out)
{
	return (short)((!in->eof && buf_room(&in->held) > 0 ? POLLIN : 0) |
		       (out->held.len > 0 ? POLLOUT : 0));
}

/* Passes bytes and ends both ways. Return: 0 both have ended; -errno. */
static int splice_both(int here, struct http_client *vivd, int stop_fd)
{
	struct way in = { .from = here, .to = vivd->fd, .held = BUF_INIT(PIPE_BYTES) };
	struct way out = { .from = vivd->fd,
			   .to = here,
			   .held = BUF_INIT(PIPE_BYTES + HTTP_HEAD_MAX) };
	int r = buf_append(&out.held, buf_str(&vivd->in), vivd->in.len);

	while (r == 0 && !(in.shut && out.shut)) {
		struct pollfd p[] = { { .fd = here, .events = events_of(&in, &out) },
				      { .fd = vivd->fd, .events = events_of(&out, &in) },
				      { .fd = stop_fd, .events = POLLIN } };

		/* A side that only hung up would be told of again and again. */
		for (size_t i = 0; i < 2; i++)
			p[i].fd = p[i].events == 0 ? -1 : p[i].fd;
		if (poll(p, ARRAY_SIZE(p), -1) < 0 && errno != EINTR)
			r = -errno;
		if (r == 0 && p[2].revents != 0)
			r = -ECANCELED;
		if (r == 0)
			r = way_step(&in);
		if (r == 0)
			r = way_step(&out);
	}
	buf_done(&in.held);
	buf_done(&out.held);
	return r;
}

/* Asks vivd for a connection to the port. Return: 0; -errno with op->err set. */
static int reach(struct tie *t, struct http_client *c, struct op *op)
{
	static const struct http_field fields[] = { { "Connection", "Upgrade" },
						    { "Upgrade", "tcp" },
						    { NULL, NULL } };
	auto_free char *target = str_printf("/sandboxes/%s/ports/%u", t->forward->id, t->there);
	int r = http_client_connect_unix(c, t->forward->cli->socket, op);

	if (r == 0)
		r = http_client_send(c, "GET", target, fields, NULL, 0, op);
	if (r == 0)
		r = http_client_head(c, op);
	if (r == 0 && c->head.status != SWITCHED)
		r = err_set(&op->err, ERR_SYSTEM, "nothing listens on port %u of the sandbox",
			    t->there);
	return r;
}

/* The peer of here learns that it did not end well. */
static void reset(int fd)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };

	ignore_err(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now))); /* then it is a FIN */
}

static void *serve(void *arg)
{
	struct tie *t = arg;
	auto_http_client c = HTTP_CLIENT_INIT;
	struct op op;

	op_init(&op, 0, t->forward->stop_fd);
	if (reach(t, &c, &op) < 0) {
		if (op.err.kind != ERR_CANCELLED)
			fprintf(stderr, "viv: port %u: %s\n", t->there, op.err.msg);
		reset(t->fd);
	} else if (splice_both(t->fd, &c, t->forward->stop_fd) < 0) {
		reset(t->fd);
	}
	http_client_done(&c);
	fd_close(&t->fd);
	free(t);
	tie_end();
	return NULL;
}

/* The forward waits for all of them (forward_stop()). */
static void accept_one(struct forward *f, const struct forward_port *p)
{
	auto_close int fd = accept4(p->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct tie *t;
	pthread_t thread;
	int one = 1;

	if (fd < 0)
		return;
	ignore_err(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one))); /* only slower */
	if (!tie_begin()) {
		fprintf(stderr, "viv: more than %d connections at once: one is refused\n",
			CONNECTIONS_MAX);
		reset(fd);
		return;
	}
	t = xcalloc(1, sizeof(*t));
	*t = (struct tie){ .forward = f, .fd = fd, .there = p->there };
	if (pthread_create(&thread, NULL, serve, t) != 0) {
		tie_end();
		free(t);
		return;
	}
	take_fd(&fd);
	pthread_detach(thread);
}

static void *accept_all(void *arg)
{
	struct forward *f = arg;
	struct pollfd p[FORWARDS_MAX + 1];

	for (;;) {
		for (size_t i = 0; i < f->n; i++)
			p[i] = (struct pollfd){ .fd = f->ports[i].fd, .events = POLLIN };
		p[f->n] = (struct pollfd){ .fd = f->stop_fd, .events = POLLIN };
		if (poll(p, f->n + 1, -1) < 0)
			continue;
		if (p[f->n].revents != 0)
			return NULL;
		for (size_t i = 0; i < f->n; i++) {
			if (p[i].revents != 0)
				accept_one(f, &f->ports[i]);
		}
	}
}

int forward_start(struct forward *f, struct cli *cli, const char *id, struct err *e)
{
	int r;

	f->cli = cli;
	f->id = id;
	f->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->stop_fd < 0)
		return err_errno(e, errno, "make an eventfd");
	r = pthread_create(&f->thread, NULL, accept_all, f);
	if (r != 0)
		return err_errno(e, r, "start a thread for ports");
	f->running = true;
	return 0;
}

void forward_stop(struct forward *f)
{
	if (f->running) {
		ignore_err(eventfd_write(f->stop_fd, 1)); /* it cannot overflow by ones */
		pthread_join(f->thread, NULL);
		wait_for_ties();
	}
	f->running = false;
	fd_close(&f->stop_fd);
	for (size_t i = 0; i < f->n; i++)
		fd_close(&f->ports[i].fd);
	f->n = 0;
}
