/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/terminal.h"

#include "base/fd.h"

#include <errno.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { DEFAULT_COLS = 80, DEFAULT_ROWS = 24 };

bool terminal_is_there(void)
{
	return isatty(STDIN_FILENO) == 1;
}

struct terminal_size terminal_size(void)
{
	static const int fds[] = { STDIN_FILENO, STDOUT_FILENO };

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		struct winsize ws;

		if (ioctl(fds[i], TIOCGWINSZ, &ws) == 0 && ws.ws_col > 0 && ws.ws_row > 0)
			return (struct terminal_size){ .cols = ws.ws_col, .rows = ws.ws_row };
	}
	return (struct terminal_size){ .cols = DEFAULT_COLS, .rows = DEFAULT_ROWS };
}

/* In the background this stops us, as it should: the terminal is not ours. */
static int set_raw(const struct terminal *t)
{
	struct termios raw = t->saved;

	cfmakeraw(&raw);
	return tcsetattr(STDIN_FILENO, TCSANOW, &raw) < 0 ? -errno : 0;
}

static int open_signals(void)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGWINCH);
	sigaddset(&set, SIGCONT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

int terminal_take(struct terminal *t, struct err *e)
{
	int r;

	t->signal_fd = open_signals();
	if (t->signal_fd < 0)
		return err_errno(e, -t->signal_fd, "set up the terminal's signals");
	if (tcgetattr(STDIN_FILENO, &t->saved) < 0)
		return err_errno(e, errno, "read the terminal's settings");
	r = set_raw(t);
	if (r < 0)
		return err_errno(e, -r, "make the terminal raw");
	t->raw = true;
	return 0;
}

bool terminal_read_signals(struct terminal *t)
{
	struct signalfd_siginfo info;
	bool any = false;

	while (read(t->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		any = true;
		/* One that is gone shows as the end of our input. */
		if (info.ssi_signo == SIGCONT)
			ignore_err(set_raw(t));
	}
	return any;
}

void terminal_give_back(struct terminal *t)
{
	/* A shell that has put us into the background has made the terminal its own. One that
	 * controls no session is nobody else's. */
	pid_t front = t->raw ? tcgetpgrp(STDIN_FILENO) : -1;

	if (t->raw && (front < 0 || front == getpgrp()))
		ignore_err(tcsetattr(STDIN_FILENO, TCSANOW, &t->saved)); /* it may be gone */
	t->raw = false;
	fd_close(&t->signal_fd);
}
