/* SPDX-License-Identifier: Apache-2.0 */
#include "tls/serve.h"

#include "base/fd.h"
#include "base/part.h"
#include "base/str.h"
#include "base/tlswords.h"
#include "os/fdpass.h"
#include "tls/conn.h"
#include "tls/context.h"

#include <errno.h>
#include <sys/resource.h>
#include <uv.h>

enum {
	MESSAGES_MAX = 64, /* before connections have their turn */
	DESCRIPTORS_OWN = 64,
};

struct serve {
	const struct tls_serve_spec *spec;
	uv_loop_t loop;
	uv_poll_t control;
	struct tls_identity identity;
	struct tls_conn_list conns;
};

static void serve_end(struct serve *s)
{
	tls_conn_close_all(&s->conns);
	uv_close((uv_handle_t *)&s->control, NULL);
}

/* Keeps the certificate that is in use when the new one is of no use. */
static void use_certificate(struct serve *s, const int fds[FDPASS_MAX])
{
	struct tls_message reply = { .word = TLS_USED };
	struct tls_identity fresh = { .ctx = NULL };
	struct err e = { 0 };

	if (tls_identity_load(fds[0], fds[1], s->spec->domain, &fresh, &e) < 0) {
		reply.word = TLS_REFUSED;
		str_copy(reply.text, sizeof(reply.text), e.msg);
	} else {
		tls_identity_done(&s->identity);
		s->identity = fresh;
		reply.covers = fresh.term.covers;
		reply.not_after_s = fresh.term.not_after_s;
	}
	ignore_err(fdpass_send(TLS_CONTROL_FD, &reply, sizeof(reply), NULL, 0)); /* vivd is gone */
}

static void serve_connection(struct serve *s, int fds[FDPASS_MAX])
{
	if (s->identity.ctx == NULL || s->conns.n >= s->spec->max)
		return;
	tls_conn_new(&s->loop, &s->conns, s->identity.ctx, take_fd(&fds[0]), take_fd(&fds[1]));
}

/* Return: 1 there may be more; 0 not now; -errno the other end is gone or talks nonsense. */
static int take_message(struct serve *s)
{
	struct tls_message m;
	int fds[FDPASS_MAX];
	int r = fdpass_recv(TLS_CONTROL_FD, &m, sizeof(m), fds);

	if (r == -EAGAIN || r == -EBADMSG) /* more descriptors than we may have: not with us */
		return r == -EBADMSG;
	if (r <= 0)
		return r < 0 ? r : -EPIPE;
	if (fds[0] >= 0 && fds[1] >= 0 && m.word == TLS_USE)
		use_certificate(s, fds);
	else if (fds[0] >= 0 && fds[1] >= 0 && m.word == TLS_SERVE)
		serve_connection(s, fds);
	for (size_t i = 0; i < FDPASS_MAX; i++)
		fd_close(&fds[i]);
	return 1;
}

static void on_control(uv_poll_t *handle, int status, int events)
{
	struct serve *s = handle->data;
	int r = status < 0 ? status : 1;

	(void)events;
	for (int i = 0; i < MESSAGES_MAX && r > 0; i++)
		r = take_message(s);
	if (r < 0)
		serve_end(s);
}

/* Two for each connection, and some of our own; with less, those too many are refused sooner. */
static void raise_descriptors(unsigned max)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur =
		MAX(limit.rlim_cur, MIN(limit.rlim_max, (rlim_t)2 * max + DESCRIPTORS_OWN));
	ignore_err(setrlimit(RLIMIT_NOFILE, &limit));
}

int tls_serve(const struct tls_serve_spec *spec, struct err *e)
{
	struct serve s = { .spec = spec };
	int r = part_begin(TLS_CONTROL_FD, "viv-tls", e);

	if (r < 0)
		return r;
	raise_descriptors(spec->max);
	uv_loop_init(&s.loop);
	r = uv_poll_init(&s.loop, &s.control, TLS_CONTROL_FD);
	if (r < 0) {
		uv_loop_close(&s.loop);
		return err_errno(e, -r, "watch descriptor %d", TLS_CONTROL_FD);
	}
	s.control.data = &s;
	uv_poll_start(&s.control, UV_READABLE, on_control);
	uv_run(&s.loop, UV_RUN_DEFAULT);
	uv_loop_close(&s.loop);
	tls_identity_done(&s.identity);
	return 0;
}
