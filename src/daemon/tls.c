/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tls.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/op.h"
#include "base/str.h"
#include "base/tlswords.h"
#include "daemon/helper.h"
#include "daemon/program.h"
#include "os/fdpass.h"
#include "os/work.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	ACCEPTS_MAX = 64,  /* before others have their turn */
	REST_MS = 100,     /* when there are no descriptors */
	BACK_OFF_MS = 100, /* before viv-tls is started again; doubled each time */
	BACK_OFF_MAX_MS = 30000,
	WELL_MS = 60000,  /* who lived that long starts from there again */
	START_MS = 30000, /* for viv-tls to take its certificate */
	DAY_S = 24 * 60 * 60,
};

struct tls {
	uv_loop_t *loop;
	struct http_server *server;
	char *program; /* the strings are owned */
	char *cert;
	char *key;
	char *domain;
	unsigned uid;
	unsigned max_connections;
	int listen_fd;
	uv_poll_t accepting;
	uv_timer_t timer; /* ends a rest of accepting, or of starting */
	struct helper worker;
	uv_poll_t *control; /* of the worker; they are memory of their own, for libuv's close */
	uv_poll_t *exit;
	struct helper fresh;  /* what a start gave */
	struct err start_err; /* or why it gave none */
	unsigned back_off_ms;
	unsigned handles; /* of accepting and timer, not closed yet */
	bool starting;    /* a thread of the pool is at it */
	bool closing;
};

static const struct helper no_worker = HELPER_INIT;
static_assert((int)TLS_CONTROL_FD == HELPER_CONTROL_FD, "viv-tls finds it there");

static void tls_free(struct tls *t)
{
	fd_close(&t->listen_fd);
	free(t->program);
	free(t->cert);
	free(t->key);
	free(t->domain);
	free(t);
}

/* Opened by root, read by viv-tls alone. */
static int open_pem(const char *path, struct err *e)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0 && errno == ENOENT)
		return err_errno(e, ENOENT, "open %s (`vivd cert` makes one for this host)", path);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(e, errno, "open %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INVALID, "%s is no file", path);
	return take_fd(&fd);
}

static int send_certificate(const struct tls *t, int control, struct err *e)
{
	const struct tls_message m = { .word = TLS_USE };
	auto_close int cert = open_pem(t->cert, e);
	auto_close int key = cert < 0 ? -1 : open_pem(t->key, e);
	int r;

	if (cert < 0 || key < 0)
		return cert < 0 ? cert : key;
	r = fdpass_send(control, &m, sizeof(m), (const int[]){ cert, key }, 2);
	return r < 0 ? err_errno(e, -r, "give the certificate to viv-tls") : 0;
}

static int spawn_worker(const struct tls *t, struct helper *out, struct err *e)
{
	auto_free char *max = str_printf("%u", t->max_connections);
	const char *argv[] = { t->program, "serve", max, t->domain, NULL };

	return helper_start(argv, t->uid, out, e);
}

static void log_certificate(const struct tls *t, const struct tls_message *m)
{
	uint64_t expires_ms = m->not_after_s > 0 ? (uint64_t)m->not_after_s * MS_PER_S : 0;
	char when[CLOCK_RFC3339_SIZE];

	clock_rfc3339(expires_ms, when);
	log_info("tls.certificate", kv_str("file", t->cert), kv_str("expires", when));
	if (expires_ms < clock_realtime_ms() + (uint64_t)TLS_EXPIRY_DAYS * DAY_S * MS_PER_S)
		log_warning("tls.certificate_expires", kv_str("file", t->cert),
			    kv_str("expires", when));
	if (!m->covers)
		log_warning("tls.certificate_of_others", kv_str("file", t->cert),
			    kv_str("why", "it is not for the names below the domain"),
			    kv_str("domain", t->domain));
}

static int take_verdict(const struct tls *t, int control, struct err *e)
{
	struct tls_message m;
	int fds[FDPASS_MAX];
	int r = fdpass_recv(control, &m, sizeof(m), fds);

	for (size_t i = 0; i < FDPASS_MAX; i++)
		fd_close(&fds[i]); /* it has none to give */
	if (r == 0)
		return err_set(e, ERR_SYSTEM, "viv-tls ended");
	if (r < 0)
		return err_errno(e, -r, "hear from viv-tls");
	if (m.word == TLS_USED) {
		log_certificate(t, &m);
		return 0;
	}
	m.text[TLS_TEXT_SIZE - 1] = '\0';
	return err_set(e, ERR_INVALID, "certificate %s, key %s: %s", t->cert, t->key, m.text);
}

/* Starts a viv-tls that has its certificate. Blocks. */
static int start_worker(const struct tls *t, struct helper *out, struct err *e)
{
	struct helper w = no_worker;
	struct op op;
	int r = spawn_worker(t, &w, e);

	if (r < 0)
		return r;
	op_init(&op, START_MS, -1);
	r = send_certificate(t, w.control, e);
	if (r == 0) {
		r = op_wait_fd(&op, w.control, POLLIN, -1);
		r = r < 0 ? err_errno(e, -r, "wait for viv-tls") : take_verdict(t, w.control, e);
	}
	if (r == 0)
		r = fd_set_nonblock(w.control, true);
	if (r < 0) {
		helper_drop(&w);
		return r;
	}
	*out = w;
	return 0;
}

static void on_accept(uv_poll_t *handle, int status, int events);
static void on_timer(uv_timer_t *timer);

static void accept_on(struct tls *t)
{
	if (!t->closing)
		uv_poll_start(&t->accepting, UV_READABLE, on_accept);
}

/* Gives a client to viv-tls, and its clear side to the server, which knows its limits. */
static void serve_client(struct tls *t, int accepted)
{
	const struct tls_message m = { .word = TLS_SERVE };
	auto_close int client = accepted;
	auto_close int ours = -1;
	auto_close int theirs = -1;
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) < 0)
		return;
	ours = ends[0];
	theirs = ends[1];
	if (http_server_serve_fd(t->server, take_fd(&ours)) < 0)
		return;
	/* If it fails, the server sees the end of the other end. */
	ignore_err(
		fdpass_send(t->worker.control, &m, sizeof(m), (const int[]){ client, theirs }, 2));
}

static bool takes_more(const struct tls *t)
{
	struct pollfd p = { .fd = t->worker.control, .events = POLLOUT };

	return poll(&p, 1, 0) > 0 && p.revents == POLLOUT; /* and it has not hung up */
}

static void on_control(uv_poll_t *handle, int status, int events);

static void on_accept(uv_poll_t *handle, int status, int events)
{
	struct tls *t = handle->data;

	(void)status;
	(void)events;
	for (int i = 0; i < ACCEPTS_MAX; i++) {
		int fd;

		if (!takes_more(t)) { /* viv-tls is behind: clients wait in the kernel */
			uv_poll_stop(handle);
			uv_poll_start(t->control, UV_READABLE | UV_WRITABLE, on_control);
			return;
		}
		fd = accept4(t->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM)) {
			uv_poll_stop(handle);
			uv_timer_start(&t->timer, on_timer, REST_MS, 0);
			return;
		}
		if (fd < 0 && errno == EAGAIN)
			return;
		if (fd >= 0)
			serve_client(t, fd);
	}
}

static void worker_gone(struct tls *t, const char *why)
{
	uint64_t lived_ms = (clock_now_ns() - t->worker.started_ns) / NS_PER_MS;

	uv_poll_stop(&t->accepting);
	helper_unwatch(&t->control);
	helper_unwatch(&t->exit);
	helper_drop(&t->worker);
	if (lived_ms >= WELL_MS)
		t->back_off_ms = BACK_OFF_MS;
	log_error("tls.worker_ended", kv_str("why", why), kv_u64("again_in_ms", t->back_off_ms));
	uv_timer_start(&t->timer, on_timer, t->back_off_ms, 0);
	t->back_off_ms = MIN(2 * t->back_off_ms, BACK_OFF_MAX_MS);
}

static void on_control(uv_poll_t *handle, int status, int events)
{
	struct tls *t = handle->data;
	struct err e = { 0 };

	if (status >= 0 && (events & UV_WRITABLE) != 0) {
		uv_poll_start(handle, UV_READABLE, on_control);
		accept_on(t);
	}
	if (status >= 0 && (events & UV_READABLE) == 0)
		return;
	if (status < 0) {
		worker_gone(t, "its control socket failed");
		return;
	}
	if (take_verdict(t, t->worker.control, &e) == 0)
		return;
	if (e.kind == ERR_INVALID)
		log_error("tls.reload_failed", kv_str("why", e.msg),
			  kv_str("certificate", "the one before is still served"));
	else
		worker_gone(t, e.msg);
}

static void on_exit_of_worker(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	worker_gone(handle->data, "viv-tls was killed or failed");
}

static void worker_up(struct tls *t, const struct helper *w)
{
	int r;

	t->worker = *w;
	r = helper_watch(t->loop, w->control, on_control, t, &t->control);
	if (r == 0)
		r = helper_watch(t->loop, w->process.pidfd, on_exit_of_worker, t, &t->exit);
	if (r < 0) {
		worker_gone(t, "vivd cannot watch it: out of memory or of epoll watches");
		return;
	}
	accept_on(t);
	log_info("tls.worker_started", kv_u64("pid", (uint64_t)w->process.pid));
}

static void start_work(void *arg)
{
	struct tls *t = arg;

	if (start_worker(t, &t->fresh, &t->start_err) == 0)
		t->start_err = (struct err){ 0 };
}

static void start_done(void *arg)
{
	struct tls *t = arg;

	t->starting = false;
	if (t->closing) {
		helper_drop(&t->fresh);
		if (t->handles == 0)
			tls_free(t);
		return;
	}
	if (t->fresh.process.pid != 0) {
		worker_up(t, &t->fresh);
		t->fresh = no_worker;
		return;
	}
	log_error("tls.start_failed", kv_str("why", t->start_err.msg),
		  kv_u64("again_in_ms", t->back_off_ms));
	uv_timer_start(&t->timer, on_timer, t->back_off_ms, 0);
	t->back_off_ms = MIN(2 * t->back_off_ms, BACK_OFF_MAX_MS);
}

static void on_timer(uv_timer_t *timer)
{
	struct tls *t = timer->data;

	if (t->worker.process.pid != 0) {
		accept_on(t);
		return;
	}
	t->starting = true;
	t->start_err = (struct err){ 0 };
	work_submit(t->loop, start_work, start_done, t);
}

static void handle_closed(uv_handle_t *h)
{
	struct tls *t = h->data;

	if (--t->handles == 0 && !t->starting)
		tls_free(t);
}

int tls_open(uv_loop_t *loop, const struct tls_spec *spec, int listen_fd, struct tls **out,
	     struct err *e)
{
	struct tls *t = xcalloc(1, sizeof(*t));
	struct helper w = no_worker;
	int r;

	*t = (struct tls){
		.loop = loop,
		.server = spec->server,
		.program = program_find("viv-tls"),
		.cert = str_dup(spec->cert),
		.key = str_dup(spec->key),
		.domain = spec->domain == NULL ? NULL
					       : str_printf("%.*s", (int)strcspn(spec->domain, ":"),
							    spec->domain),
		.uid = spec->uid,
		.max_connections = spec->max_connections,
		.listen_fd = listen_fd,
		.worker = no_worker,
		.fresh = no_worker,
		.back_off_ms = BACK_OFF_MS,
		.handles = 2,
	};
	r = start_worker(t, &w, e);
	if (r == 0) {
		r = uv_poll_init(loop, &t->accepting, listen_fd);
		if (r < 0)
			err_errno(e, -r, "watch the socket of tls_listen");
	}
	if (r < 0) {
		helper_drop(&w);
		tls_free(t);
		return r;
	}
	uv_timer_init(loop, &t->timer);
	t->accepting.data = t;
	t->timer.data = t;
	worker_up(t, &w);
	*out = t;
	return 0;
}

void tls_reload(struct tls *t)
{
	struct err e = { 0 };

	if (t->worker.process.pid == 0)
		return; /* the next one reads them anyway */
	if (send_certificate(t, t->worker.control, &e) < 0)
		log_error("tls.reload_failed", kv_str("why", e.msg),
			  kv_str("certificate", "the one before is still served"));
}

void tls_close(struct tls *t)
{
	t->closing = true;
	helper_unwatch(&t->control);
	helper_unwatch(&t->exit);
	helper_drop(&t->worker);
	uv_close((uv_handle_t *)&t->accepting, handle_closed);
	uv_close((uv_handle_t *)&t->timer, handle_closed);
}
