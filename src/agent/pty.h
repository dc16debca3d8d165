/* SPDX-License-Identifier: Apache-2.0 */
/* Pseudo-terminals. */
#pragma once

#include "base/macros.h"

#include <sys/types.h>

struct user;

struct pty_size {
	uint16_t cols; /* both at least 1 */
	uint16_t rows;
};

/**
 * pty_open() - make a terminal
 * @user:	becomes its owner; the group is what devpts gives (tty), the mode 0620
 * @out_master:	our end, non-blocking; the caller owns both
 * @out_slave:	the end of the process that will have it as its terminal
 *
 * Return: 0; -errno.
 */
must_check int pty_open(const struct user *user, struct pty_size size, int *out_master,
			int *out_slave);

/** pty_resize() - set the size; the foreground group gets SIGWINCH. Return: 0; -errno */
must_check int pty_resize(int master_fd, struct pty_size size);

/** pty_foreground() - the terminal's foreground process group; 0 = none */
pid_t pty_foreground(int master_fd);
