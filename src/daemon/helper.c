/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/helper.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

unsigned helper_uid(const struct config *c, enum helper_kind kind)
{
	return c->vmm_uid_base + (1U << (31 - c->network_prefix)) + (unsigned)kind;
}

int helper_start(const char *const *argv, unsigned uid, struct helper *out, struct err *e)
{
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	auto_close int ours = -1;
	auto_close int theirs = -1;
	struct spawn_fd fds[2];
	int ends[2];
	int r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return err_errno(e, errno, "make a socket pair for %s", argv[0]);
	ours = ends[0];
	theirs = ends[1];
	fds[0] = (struct spawn_fd){ .from = theirs, .to = HELPER_CONTROL_FD };
	fds[1] = (struct spawn_fd){ .from = STDERR_FILENO, .to = STDERR_FILENO };
	spec.argv = argv;
	spec.fds = fds;
	spec.n_fds = ARRAY_SIZE(fds);
	spec.uid = uid;
	spec.gid = uid;
	spec.jail = true;
	spec.setsid = true;
	r = spawn_process(&spec, &out->process, e);
	if (r < 0)
		return r;
	out->control = take_fd(&ours);
	out->started_ns = clock_now_ns();
	return 0;
}

/* Kills and reaps. libuv may have made the pidfd non-blocking: then only poll(2) waits for it. */
static void end_process(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	waitid(P_PIDFD, (id_t)pidfd, &(siginfo_t){ 0 }, WEXITED);
}

void helper_drop(struct helper *helper)
{
	fd_close(&helper->control);
	if (helper->process.pidfd >= 0)
		end_process(helper->process.pidfd);
	fd_close(&helper->process.pidfd);
	*helper = (struct helper)HELPER_INIT;
}

int helper_watch(uv_loop_t *loop, int fd, uv_poll_cb fn, void *arg, uv_poll_t **out)
{
	uv_poll_t *h = xcalloc(1, sizeof(*h));
	int r = uv_poll_init(loop, h, fd);

	if (r < 0) {
		free(h); /* libuv does not know a handle whose init failed */
		return r;
	}
	h->data = arg;
	uv_poll_start(h, UV_READABLE, fn);
	*out = h;
	return 0;
}

static void free_handle(uv_handle_t *h)
{
	free(h);
}

void helper_unwatch(uv_poll_t **handle)
{
	if (*handle != NULL)
		uv_close((uv_handle_t *)take_ptr(handle), free_handle);
}
