/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/pty.h"

#include "agent/user.h"
#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

enum { PTY_MODE = 0620 };

/* Whoever is not root has made it as the only user that it can serve. */
static int set_owner(int slave, const struct user *user)
{
	if (fchown(slave, user->uid, (gid_t)-1) < 0 && !(errno == EPERM && geteuid() == user->uid))
		return -errno;
	return fchmod(slave, PTY_MODE) < 0 ? -errno : 0;
}

/* A line editor in the kernel that takes back characters and not bytes. */
static int set_utf8(int slave)
{
	struct termios t;

	if (tcgetattr(slave, &t) < 0)
		return -errno;
	t.c_iflag |= IUTF8;
	return tcsetattr(slave, TCSANOW, &t) < 0 ? -errno : 0;
}

int pty_open(const struct user *user, struct pty_size size, int *out_master, int *out_slave)
{
	auto_close int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK);
	auto_close int slave = -1;
	int r;

	if (master < 0 || unlockpt(master) < 0)
		return -errno;
	/* By the master, not by a path: what is mounted at /dev/pts is the guest's affair. */
	slave = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0)
		return -errno;
	r = set_owner(slave, user);
	if (r == 0)
		r = set_utf8(slave);
	if (r == 0)
		r = pty_resize(master, size);
	if (r < 0)
		return r;
	*out_master = take_fd(&master);
	*out_slave = take_fd(&slave);
	return 0;
}

int pty_resize(int master_fd, struct pty_size size)
{
	const struct winsize ws = { .ws_col = size.cols, .ws_row = size.rows };

	return ioctl(master_fd, TIOCSWINSZ, &ws) < 0 ? -errno : 0;
}

pid_t pty_foreground(int master_fd)
{
	pid_t group;

	return ioctl(master_fd, TIOCGPGRP, &group) < 0 ? 0 : group;
}
