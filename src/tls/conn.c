/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/conn.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
	PIECE_BYTES = 16 << 10, /* a record of TLS */
	ROUNDS_MAX = 32,        /* pieces before others have their turn */
	HANDSHAKE_MS = 10000,
	STALL_MS = 300000, /* as long as vivd is patient with such clients */
	DRAIN_MS = 2000,
	KEEPALIVE_S = 60,
};

enum conn_state {
	CONN_HELLO, /* nothing has come yet */
	CONN_HANDSHAKE,
	CONN_RELAY,
	CONN_DRAIN, /* our side is shut, until the client's is */
	CONN_CLOSED
};

/* One direction; its buffer is there while it holds something. */
struct flow {
	char *bytes; /* owned; PIECE_BYTES */
	size_t at;
	size_t len;
	bool eof;  /* the source said its last word */
	bool dead; /* nobody takes what comes, or the end was passed on */
};

struct tls_conn {
	struct tls_conn_list *list;
	struct tls_conn *next, **link;
	enum conn_state state;
	SSL *ssl; /* owned */
	int client_fd;
	int clear_fd;
	uv_poll_t client;
	uv_poll_t clear;
	uv_timer_t timer;
	int client_events; /* that libuv looks for */
	int clear_events;
	unsigned handles;      /* not closed yet */
	struct flow up;        /* client to clear */
	struct flow down;      /* clear to client */
	bool read_wants_write; /* OpenSSL has to write before it can read on, and so on */
	bool write_wants_read;
	bool broken;
	bool hung_up;     /* the client's end was seen by the kernel; asked for once */
	bool clear_ended; /* the same of vivd's */
	bool orderly;     /* and that was a shutdown, not a close */
	bool again;       /* there is more to move, after the others' turn */
	bool moved;       /* the client took something since the timer looked */
};

static void handle_closed(uv_handle_t *h)
{
	struct tls_conn *c = h->data;

	if (--c->handles == 0)
		free(c);
}

/* One that was never opened has no data. */
static void handle_close(uv_handle_t *h)
{
	if (h->data != NULL)
		uv_close(h, handle_closed);
}

static void conn_close(struct tls_conn *c)
{
	if (c->state == CONN_CLOSED)
		return;
	c->state = CONN_CLOSED;
	*c->link = c->next;
	if (c->next != NULL)
		c->next->link = c->link;
	c->list->n--;
	handle_close((uv_handle_t *)&c->client);
	handle_close((uv_handle_t *)&c->clear);
	handle_close((uv_handle_t *)&c->timer);
	SSL_free(c->ssl);
	free(take_ptr(&c->up.bytes));
	free(take_ptr(&c->down.bytes));
	fd_close(&c->client_fd);
	fd_close(&c->clear_fd);
}

static void on_ready(uv_poll_t *handle, int status, int events);

/* Each call of libuv's costs system calls, and mostly nothing has changed. */
static void watch(struct tls_conn *c, uv_poll_t *handle, int events)
{
	int *now = handle == &c->client ? &c->client_events : &c->clear_events;
	int r;

	if (*now == events)
		return;
	*now = events;
	r = events != 0 ? uv_poll_start(handle, events, on_ready) : uv_poll_stop(handle);
	if (r < 0)
		c->broken = true;
}

static void on_deadline(uv_timer_t *timer)
{
	struct tls_conn *c = timer->data;

	if (c->state == CONN_RELAY && c->moved)
		c->moved = false;
	else
		conn_close(c);
}

/* What the client sends from here on is of no use; reading it keeps our last words from being lost
 * to a reset. */
static void conn_drain(struct tls_conn *c)
{
	c->state = CONN_DRAIN;
	shutdown(c->client_fd, SHUT_WR);
	shutdown(c->clear_fd, SHUT_RDWR); /* closed with its handle, or libuv would mistake the
					   * next descriptor of this number for it */
	watch(c, &c->clear, 0);
	watch(c, &c->client, UV_READABLE);
	uv_timer_start(&c->timer, on_deadline, DRAIN_MS, 0);
}

static void drain_more(struct tls_conn *c)
{
	char piece[4096];
	ssize_t n = 1;

	for (int i = 0; i < ROUNDS_MAX && n > 0; i++)
		n = recv(c->client_fd, piece, sizeof(piece), MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		c->broken = true;
}

static bool room_for_piece(struct tls_conn *c, struct flow *f)
{
	if (f->bytes == NULL)
		f->bytes = malloc(PIECE_BYTES);
	if (f->bytes == NULL)
		c->broken = true;
	return f->bytes != NULL;
}

static void flow_fill(struct flow *f, size_t n)
{
	f->at = 0;
	f->len = n;
}

static void flow_use(struct flow *f, size_t n)
{
	f->at += n;
	f->len -= n;
}

/* What OpenSSL did not do: whether it waits for the socket, and for what. */
static void note_want(struct tls_conn *c, int r, bool *wants_other, int other)
{
	int why = SSL_get_error(c->ssl, r);

	if (why == other)
		*wants_other = true;
	else if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
		c->broken = true;
}

static bool read_client(struct tls_conn *c)
{
	size_t n = 0;
	int r;

	if (c->up.eof || c->up.dead || !room_for_piece(c, &c->up))
		return false;
	ERR_clear_error();
	c->read_wants_write = false;
	r = SSL_read_ex(c->ssl, c->up.bytes, PIECE_BYTES, &n);
	if (r == 1) {
		flow_fill(&c->up, n);
		return true;
	}
	if (SSL_get_error(c->ssl, r) == SSL_ERROR_ZERO_RETURN) {
		c->up.eof = true;
		shutdown(c->clear_fd, SHUT_WR);
		return true;
	}
	note_want(c, r, &c->read_wants_write, SSL_ERROR_WANT_WRITE);
	return false;
}

/* Return: whether something moved. */
static bool pump_up(struct tls_conn *c)
{
	ssize_t n;

	if (c->up.len == 0)
		return read_client(c);
	n = send(c->clear_fd, c->up.bytes + c->up.at, c->up.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n < 0) { /* vivd listens no more; what it said is delivered */
		c->up.len = 0;
		c->up.dead = true;
		return true;
	}
	flow_use(&c->up, (size_t)n);
	return n > 0;
}

static bool is_hung_up(int fd)
{
	struct pollfd p = { .fd = fd };

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

/* Looks at once what kind of end it is: a close follows a shutdown soon. */
static void note_clear_end(struct tls_conn *c)
{
	if (!c->clear_ended)
		c->orderly = !is_hung_up(c->clear_fd);
	c->clear_ended = true;
}

static bool read_clear(struct tls_conn *c)
{
	ssize_t n;

	if (c->down.eof || !room_for_piece(c, &c->down))
		return false;
	n = recv(c->clear_fd, c->down.bytes, PIECE_BYTES, MSG_DONTWAIT);
	if (n < 0 && errno == EAGAIN)
		return false;
	if (n > 0) {
		flow_fill(&c->down, (size_t)n);
		return true;
	}
	note_clear_end(c);
	c->down.eof = true;
	return true;
}

static bool pump_down(struct tls_conn *c)
{
	size_t n = 0;
	int r;

	if (c->down.len == 0)
		return read_clear(c);
	ERR_clear_error();
	c->write_wants_read = false;
	r = SSL_write_ex(c->ssl, c->down.bytes + c->down.at, c->down.len, &n);
	if (r != 1) {
		note_want(c, r, &c->write_wants_read, SSL_ERROR_WANT_READ);
		return false;
	}
	flow_use(&c->down, n);
	c->moved = true;
	return true;
}

/* A reset, as vivd makes one on TCP: no client takes that for the end of a reply. */
static void conn_reset(struct tls_conn *c)
{
	const struct linger at_once = { .l_onoff = 1 };

	setsockopt(c->client_fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	conn_close(c);
}

/* Behind vivd's last byte: its end is passed on, and both directions may be at theirs. */
static void pass_end(struct tls_conn *c)
{
	bool whole = c->up.eof || c->orderly;

	if (whole && !c->down.dead) {
		ERR_clear_error();
		if (SSL_shutdown(c->ssl) < 0 && SSL_get_error(c->ssl, -1) == SSL_ERROR_WANT_WRITE)
			return; /* the client is to take something first */
		c->down.dead = true;
	}
	if (!whole)
		conn_reset(c);
	else if (c->up.eof || c->up.dead || is_hung_up(c->clear_fd))
		conn_drain(c);
}

static void free_empty(struct flow *f)
{
	if (f->len == 0)
		free(take_ptr(&f->bytes));
}

/* Whether the client has to take something before it goes on. */
static bool waits_for_client(const struct tls_conn *c)
{
	return c->down.len > 0 || (c->down.eof && !c->down.dead);
}

static int wanted_of_client(const struct tls_conn *c)
{
	int events = c->hung_up ? 0 : UV_DISCONNECT;

	if ((c->up.len == 0 && !c->up.eof && !c->up.dead) || c->write_wants_read)
		events |= UV_READABLE;
	if ((waits_for_client(c) && !c->write_wants_read) || c->read_wants_write)
		events |= UV_WRITABLE;
	return events;
}

static int wanted_of_clear(const struct tls_conn *c)
{
	int events = c->clear_ended ? 0 : UV_DISCONNECT;

	if (c->down.len == 0 && !c->down.eof)
		events |= UV_READABLE;
	if (c->up.len > 0 || c->again)
		events |= UV_WRITABLE;
	if (c->down.dead)
		events |= UV_PRIORITIZED; /* nothing but a hang-up comes of this */
	return events;
}

/* A client that takes nothing has until the timer looks a second time. */
static void set_stall_timer(struct tls_conn *c)
{
	if (!waits_for_client(c))
		uv_timer_stop(&c->timer);
	else if (!uv_is_active((uv_handle_t *)&c->timer))
		uv_timer_start(&c->timer, on_deadline, STALL_MS, STALL_MS);
}

static void conn_relay(struct tls_conn *c)
{
	bool moved = true;

	for (int i = 0; i < ROUNDS_MAX && moved && !c->broken; i++) {
		moved = pump_up(c);
		moved = pump_down(c) || moved;
	}
	c->again = moved; /* OpenSSL may hold bytes that no socket tells of any more */
	if (!c->broken && c->down.eof && c->down.len == 0)
		pass_end(c);
	if (c->broken || c->state != CONN_RELAY)
		return;
	free_empty(&c->up);
	free_empty(&c->down);
	watch(c, &c->client, wanted_of_client(c));
	watch(c, &c->clear, wanted_of_clear(c));
	set_stall_timer(c);
}

/* TLS begins with a record of the handshake; a letter is somebody's HTTP. */
static bool is_plain_http(char first)
{
	return (first >= 'A' && first <= 'Z') || (first >= 'a' && first <= 'z');
}

static void refuse_plain_http(struct tls_conn *c)
{
	static const char answer[] =
		"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\n"
		"Connection: close\r\n\r\n"
		"{\"code\":400,\"message\":\"this port speaks TLS: use https:// in place of "
		"http:// "
		"for it\"}\r\n";
	ssize_t n = send(c->client_fd, answer, sizeof(answer) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);

	(void)n; /* who cannot take it sees the end alone */
	conn_drain(c);
}

static void conn_handshake(struct tls_conn *c)
{
	bool wants_write = false;
	int r;

	ERR_clear_error();
	r = SSL_accept(c->ssl);
	if (r == 1) {
		c->state = CONN_RELAY;
		uv_timer_stop(&c->timer);
		conn_relay(c);
		return;
	}
	note_want(c, r, &wants_write, SSL_ERROR_WANT_WRITE);
	if (c->broken) { /* OpenSSL has said why, in an alert */
		c->broken = false;
		conn_drain(c);
	} else {
		watch(c, &c->client, wants_write ? UV_WRITABLE : UV_READABLE);
	}
}

static void conn_hello(struct tls_conn *c)
{
	char first;
	ssize_t n = recv(c->client_fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		c->broken = true;
	} else if (n == 1 && is_plain_http(first)) {
		refuse_plain_http(c);
	} else if (n == 1) {
		c->state = CONN_HANDSHAKE;
		conn_handshake(c);
	}
}

static void conn_settle(struct tls_conn *c)
{
	switch (c->state) {
	case CONN_HELLO:
		conn_hello(c);
		break;
	case CONN_HANDSHAKE:
		conn_handshake(c);
		break;
	case CONN_RELAY:
		conn_relay(c);
		break;
	case CONN_DRAIN:
		drain_more(c);
		break;
	case CONN_CLOSED:
		return;
	}
	if (c->broken)
		conn_close(c);
}

static void on_ready(uv_poll_t *handle, int status, int events)
{
	struct tls_conn *c = handle->data;

	if (handle == &c->client && (events & UV_DISCONNECT) != 0)
		c->hung_up = true;
	if (handle == &c->clear && (events & UV_DISCONNECT) != 0)
		note_clear_end(c);
	if (status < 0 && handle == &c->client)
		c->broken = true; /* reset */
	conn_settle(c);
}

static void set_options(int fd)
{
	int on = 1;
	int idle = KEEPALIVE_S;

	/* Without them it works, too, if less well. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
}

static int open_poll(struct tls_conn *c, uv_loop_t *loop, uv_poll_t *handle, int fd)
{
	int r = uv_poll_init(loop, handle, fd);

	if (r < 0)
		return r;
	handle->data = c;
	c->handles++;
	return 0;
}

/* Return: 0; -errno: some of them are open. */
static int open_handles(struct tls_conn *c, uv_loop_t *loop)
{
	int r;

	uv_timer_init(loop, &c->timer);
	c->timer.data = c;
	c->handles = 1;
	r = open_poll(c, loop, &c->client, c->client_fd);
	return r < 0 ? r : open_poll(c, loop, &c->clear, c->clear_fd);
}

static void list_add(struct tls_conn *c)
{
	c->next = c->list->first;
	c->link = &c->list->first;
	if (c->next != NULL)
		c->next->link = &c->next;
	c->list->first = c;
	c->list->n++;
}

void tls_conn_new(uv_loop_t *loop, struct tls_conn_list *list, SSL_CTX *ctx, int client, int clear)
{
	auto_close int client_fd = client;
	auto_close int clear_fd = clear;
	SSL *ssl = SSL_new(ctx);
	struct tls_conn *c;

	if (ssl == NULL || SSL_set_fd(ssl, client_fd) != 1) {
		SSL_free(ssl);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	*c = (struct tls_conn){ .list = list, .ssl = ssl };
	set_options(client_fd);
	c->client_fd = take_fd(&client_fd);
	c->clear_fd = take_fd(&clear_fd);
	list_add(c);
	if (open_handles(c, loop) < 0) {
		conn_close(c);
		return;
	}
	uv_timer_start(&c->timer, on_deadline, HANDSHAKE_MS, 0);
	watch(c, &c->client, UV_READABLE);
	conn_settle(c);
}

void tls_conn_close_all(struct tls_conn_list *list)
{
	while (list->first != NULL)
		conn_close(list->first);
}
