/* SPDX-License-Identifier: Apache-2.0 */
#include "http/forward.h"

#include "base/str.h"
#include "http/stream-internal.h"
#include "http/tunnel.h"

#include <errno.h>
#include <stdlib.h>

struct forward_connect {
	uv_connect_t req;
	struct forward *forward; /* NULL = given up */
};

struct forward {
	struct forward_spec spec;
	struct forward *next, **link; /* in the group */
	size_t at;                    /* of spec.addrs */
	uv_loop_t *loop;
	struct http_exchange *x; /* NULL once the tunnel has it, or it is closed */
	uv_stream_t *up;         /* owned; NULL while there is none, and once it is the tunnel's */
	struct forward_connect *connect;
	struct tunnel *tunnel; /* owned */
};

static const struct http_exchange_events no_events;

static void group_add(struct forward *f)
{
	struct forward_group *g = f->spec.group;

	f->next = g->first;
	f->link = &g->first;
	if (f->next != NULL)
		f->next->link = &f->next;
	g->first = f;
	g->n++;
}

static void forward_free(struct forward *f)
{
	*f->link = f->next;
	if (f->next != NULL)
		f->next->link = f->link;
	f->spec.group->n--;
	free(f);
}

/* Gives up the stream that is, or is being, connected. */
static void drop_stream(struct forward *f)
{
	if (f->connect != NULL)
		f->connect->forward = NULL;
	f->connect = NULL;
	if (f->up != NULL)
		http_stream_close(take_ptr(&f->up));
}

static void forward_fail(struct forward *f, int code)
{
	struct forward_spec spec = f->spec;
	struct http_exchange *x = take_ptr(&f->x);

	drop_stream(f);
	http_exchange_bind(x, &no_events, NULL);
	forward_free(f);
	spec.on_fail(x, code, spec.arg);
}

static void on_exchange_close(struct http_exchange *x, bool complete, void *arg)
{
	struct forward *f = arg;

	(void)x;
	(void)complete;
	drop_stream(f);
	forward_free(f);
}

static const struct http_exchange_events forward_events = { .on_close = on_exchange_close };

static void on_tunnel_end(void *arg)
{
	forward_free(arg);
}

static void forward_open(struct forward *f)
{
	const struct http_field fields[] = {
		{ "Connection", "Upgrade" },
		{ "Upgrade", f->spec.protocol },
		{ NULL, NULL },
	};

	f->tunnel = tunnel_switch(f->x, fields, f->up, on_tunnel_end, f);
	if (f->tunnel == NULL) {
		forward_fail(f, ENOMEM);
		return;
	}
	f->x = NULL;
	f->up = NULL;
	tunnel_start(f->tunnel);
}

static bool is_own_peer(uv_stream_t *stream)
{
	struct sockaddr_storage here = { 0 };
	struct sockaddr_storage there = { 0 };
	int n_here = sizeof(here);
	int n_there = sizeof(there);

	return uv_tcp_getsockname((uv_tcp_t *)stream, (struct sockaddr *)&here, &n_here) == 0 &&
	       uv_tcp_getpeername((uv_tcp_t *)stream, (struct sockaddr *)&there, &n_there) == 0 &&
	       n_here == n_there && memcmp(&here, &there, (size_t)n_here) == 0;
}

static void on_connect(uv_connect_t *req, int status);

static int try_address(struct forward *f)
{
	const struct sockaddr *addr = (const struct sockaddr *)&f->spec.addrs[f->at];
	uv_tcp_t *tcp = xcalloc(1, sizeof(*tcp));
	int r;

	uv_tcp_init(f->loop, tcp);
	uv_tcp_nodelay(tcp, 1);
	f->up = (uv_stream_t *)tcp;
	f->connect = xcalloc(1, sizeof(*f->connect));
	f->connect->forward = f;
	r = uv_tcp_connect(&f->connect->req, tcp, addr, on_connect);
	if (r < 0)
		free(take_ptr(&f->connect));
	return r;
}

/* Goes on to the next address that may accept. @r: why the one before did not. */
static void try_next(struct forward *f, int r)
{
	while (r < 0) {
		drop_stream(f);
		f->at++;
		if (f->at >= f->spec.n_addrs) {
			forward_fail(f, -r);
			return;
		}
		r = try_address(f);
	}
}

static void on_connect(uv_connect_t *req, int status)
{
	struct forward_connect *connect = container_of(req, struct forward_connect, req);
	struct forward *f = connect->forward;

	free(connect);
	if (f == NULL)
		return;
	f->connect = NULL;
	if (status == 0 && is_own_peer(f->up))
		status = -ECONNREFUSED;
	if (status < 0)
		try_next(f, status);
	else
		forward_open(f);
}

void forward_start(uv_loop_t *loop, struct http_exchange *x, const struct forward_spec *spec)
{
	struct forward *f = xcalloc(1, sizeof(*f));

	f->spec = *spec;
	f->loop = loop;
	f->x = x;
	group_add(f);
	http_exchange_bind(x, &forward_events, f);
	try_next(f, try_address(f));
}

void forward_abort_all(struct forward_group *g)
{
	while (g->first != NULL) {
		struct forward *f = g->first;

		if (f->tunnel != NULL) {
			tunnel_abort(f->tunnel);
			forward_free(f);
		} else {
			http_exchange_abort(f->x); /* the rest follows from its on_close */
		}
	}
}
