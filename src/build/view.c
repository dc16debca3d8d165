/* SPDX-License-Identifier: Apache-2.0 */
#include "build/view.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DETAIL_SIZE = 256, DEFAULT_COLUMNS = 80 };
static const uint64_t HEARTBEAT_NS = (uint64_t)5 * 1000 * 1000 * 1000;

unsigned long long view_elapsed_s(const struct view *v)
{
	return (clock_now_ns() - v->start_ns) / NS_PER_S;
}

static size_t columns(void)
{
	struct winsize size;

	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
		return DEFAULT_COLUMNS;
	return size.ws_col;
}

/* The line as it is now; on a terminal over the one before, cut to its width. */
static void show(struct view *v, const char *detail)
{
	char line[sizeof(v->what) + DETAIL_SIZE];
	unsigned percent = v->of > 0 ? (v->at - 1) * 100 / v->of : 0;

	snprintf(line, sizeof(line), "[%u/%u] %s, %u %%, %llu s: %s%s%s", v->part, v->parts,
		 v->part_name, percent, view_elapsed_s(v), v->what,
		 v->what[0] != '\0' && detail[0] != '\0' ? ": " : "", detail);
	for (char *p = line; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == '\x7f')
			*p = ' ';
	if (v->terminal)
		fprintf(stderr, "\r\033[K%.*s", (int)MIN(columns() - 1, sizeof(line)), line);
	else
		fprintf(stderr, "%s\n", line);
	v->shown_ns = clock_now_ns();
}

static void clear(const struct view *v)
{
	if (v->terminal)
		fprintf(stderr, "\r\033[K");
}

static void on_step(unsigned at, unsigned of, const char *what, void *arg)
{
	struct view *v = arg;

	v->at = MAX(at, 1);
	v->of = of;
	str_copy(v->what, sizeof(v->what), what);
	show(v, "");
}

static void on_detail(const char *text, void *arg)
{
	struct view *v = arg;

	if (text[0] != '\0' && (v->terminal || clock_now_ns() - v->shown_ns >= HEARTBEAT_NS))
		show(v, text);
}

struct progress view_begin_part(struct view *v, unsigned part, const char *name)
{
	v->part = part;
	v->part_name = name;
	v->at = 1;
	v->what[0] = '\0';
	v->shown_ns = clock_now_ns();
	return (struct progress){ .step = on_step, .detail = on_detail, .arg = v };
}

/* A signal that was heeded must not kill us when it is let through again. */
static void take_signals(int fd)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) > 0)
		;
}

int view_run(struct view *v, int (*work)(struct view *v, void *arg, struct op *op), void *arg,
	     struct err *e)
{
	auto_close int signals = -1;
	struct op op;
	sigset_t set;
	sigset_t old;
	int r;

	v->terminal = isatty(STDERR_FILENO) == 1;
	v->start_ns = clock_now_ns();
	umask(0022); /* VMMs, which are not root, read what is made */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		return err_errno(e, errno, "watch for signals");
	op_init(&op, 0, signals);
	r = work(v, arg, &op);
	clear(v);
	if (r < 0 && op_check(&op) < 0)
		r = err_set(e, ERR_CANCELLED, "interrupted; nothing unfinished is left");
	else if (r < 0)
		*e = op.err;
	take_signals(signals);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}
