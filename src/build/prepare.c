/* SPDX-License-Identifier: Apache-2.0 */
#include "build/prepare.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "build/build.h"
#include "os/spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_SIZE = 256, DEFAULT_COLUMNS = 80, STAT_BLOCK_BYTES = 512 };
static const uint64_t HEARTBEAT_NS = (uint64_t)5 * 1000 * 1000 * 1000;
static const unsigned parts = 2;
static const char base[] = "base";

/* What stderr shows of it. */
struct view {
	bool terminal;
	uint64_t start_ns;
	uint64_t shown_ns; /* when the last line was written; not on a terminal */
	unsigned part;     /* 1 to parts */
	const char *part_name;
	unsigned at; /* step of the part */
	unsigned of;
	char what[LINE_SIZE];
};

static unsigned long long elapsed_s(const struct view *v)
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
	char line[2 * LINE_SIZE];
	unsigned percent = v->of > 0 ? (v->at - 1) * 100 / v->of : 0;

	snprintf(line, sizeof(line), "[%u/%u] %s, %u %%, %llu s: %s%s%s", v->part, parts,
		 v->part_name, percent, elapsed_s(v), v->what,
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

static struct progress begin_part(struct view *v, unsigned part, const char *name)
{
	v->part = part;
	v->part_name = name;
	v->at = 1;
	v->what[0] = '\0';
	v->shown_ns = clock_now_ns();
	return (struct progress){ .step = on_step, .detail = on_detail, .arg = v };
}

/* What the host's package lists name may be gone from the archive: then with new lists. */
static int get_kernel(const struct prepare_spec *spec, struct view *v, struct op *op)
{
	static const char *const update[] = { "apt-get", "update", NULL };
	struct progress progress = begin_part(v, 1, "guest kernel");
	struct op first = op_child(op, 0);
	struct op refresh = op_child(op, 0);
	struct kernel kernel;
	int r = kernel_fetch(spec->state_dir, &kernel, &progress, &first);

	if (r == 0)
		return 0;
	op->err = first.err;
	if (op_check(op) < 0 || op->err.kind == ERR_EXHAUSTED)
		return r;
	on_step(1, 1, "refresh the package lists", v);
	if (spawn_run_lines(update, on_detail, v, &refresh) < 0)
		return r;
	op->err = (struct err){ 0 };
	return kernel_fetch(spec->state_dir, &kernel, &progress, op);
}

static int build_base(const struct prepare_spec *spec, struct view *v, struct op *op)
{
	struct progress progress = begin_part(v, 2, "base template");
	struct template_build_spec build = {
		.state_dir = spec->state_dir,
		.name = base,
		.free_mib = spec->root_free_mib,
	};

	return template_build_base(&build, &progress, op);
}

static int prepare(const struct prepare_spec *spec, struct view *v, struct op *op)
{
	struct kernel kernel;
	bool want_kernel = spec->force || kernel_find(spec->state_dir, NULL, &kernel, NULL) < 0;
	bool want_base = spec->force || !template_exists(spec->state_dir, base);
	int r = 0;

	if ((want_kernel || want_base) && geteuid() != 0)
		return err_set(&op->err, ERR_UNSUPPORTED,
			       "preparing %s has to be done by root: sudo vivd prepare",
			       spec->state_dir);
	if (want_kernel)
		r = get_kernel(spec, v, op);
	if (r == 0 && want_base)
		r = build_base(spec, v, op);
	return r;
}

static int sum_up(const struct prepare_spec *spec, const struct view *v, struct err *e)
{
	struct kernel kernel;
	struct template t;
	struct stat vmlinux;
	struct stat root;
	int r = kernel_find(spec->state_dir, NULL, &kernel, e);

	if (r >= 0)
		r = template_open(spec->state_dir, base, &t, e);
	if (r < 0)
		return r;
	if (stat(kernel.vmlinux, &vmlinux) < 0 || stat(t.root_path, &root) < 0)
		return err_errno(e, errno, "look at what was prepared in %s", spec->state_dir);
	fprintf(stderr,
		"%s is ready (%llu s): guest kernel %s (%llu MB), template %s "
		"(%llu MB on disk, %llu MB as a guest's smallest disk)\n",
		spec->state_dir, elapsed_s(v), kernel.version,
		(unsigned long long)vmlinux.st_blocks * STAT_BLOCK_BYTES / 1000000, base,
		(unsigned long long)root.st_blocks * STAT_BLOCK_BYTES / 1000000,
		(unsigned long long)t.root_bytes / 1000000);
	return 0;
}

/* A signal that was heeded must not kill us when it is let through again. */
static void take_signals(int fd)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) > 0)
		;
}

int prepare_run(const struct prepare_spec *spec, struct err *e)
{
	struct view v = { .terminal = isatty(STDERR_FILENO) == 1, .start_ns = clock_now_ns() };
	auto_close int signals = -1;
	struct op op;
	sigset_t set;
	sigset_t old;
	int r;

	umask(0022); /* VMMs, which are not root, read what is made here */
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, &old);
	signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (signals < 0)
		return err_errno(e, errno, "watch for signals");
	op_init(&op, 0, signals);
	r = prepare(spec, &v, &op);
	clear(&v);
	if (r < 0 && op_check(&op) < 0)
		r = err_set(e, ERR_CANCELLED, "interrupted; nothing unfinished is left");
	else if (r < 0)
		*e = op.err;
	else
		r = sum_up(spec, &v, e);
	take_signals(signals);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}
