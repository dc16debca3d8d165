/* SPDX-License-Identifier: Apache-2.0 */
#include "os/fdpass.h"

#include "base/fd.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

union control {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(FDPASS_MAX * sizeof(int))];
};

int fdpass_send(int sock, const void *p, size_t n, const int *fds, size_t n_fds)
{
	struct iovec io = { .iov_base = (void *)(uintptr_t)p, .iov_len = n };
	union control control = { .bytes = "" };
	struct msghdr m = { .msg_iov = &io, .msg_iovlen = 1 };
	struct cmsghdr *c;
	ssize_t r;

	assert(n_fds <= FDPASS_MAX);
	if (n_fds > 0) {
		m.msg_control = control.bytes;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		c = CMSG_FIRSTHDR(&m);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do
		r = sendmsg(sock, &m, MSG_NOSIGNAL);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

/* Takes the descriptors out of a message, closing those that there is no place for. */
static void take_fds(struct msghdr *m, int fds[FDPASS_MAX])
{
	size_t n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (n < FDPASS_MAX)
				fds[n++] = fd;
			else
				fd_close(&fd);
		}
	}
}

int fdpass_recv(int sock, void *p, size_t n, int fds[FDPASS_MAX])
{
	struct iovec io = { .iov_base = p, .iov_len = n };
	union control control;
	struct msghdr m = { .msg_iov = &io,
			    .msg_iovlen = 1,
			    .msg_control = control.bytes,
			    .msg_controllen = sizeof(control.bytes) };
	ssize_t r;

	for (size_t i = 0; i < FDPASS_MAX; i++)
		fds[i] = -1;
	do
		r = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (r < 0 && errno == EINTR);
	if (r < 0)
		return -errno;
	take_fds(&m, fds);
	if ((size_t)r == n && (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) == 0)
		return 1;
	for (size_t i = 0; i < FDPASS_MAX; i++)
		fd_close(&fds[i]);
	return r == 0 ? 0 : -EBADMSG;
}
