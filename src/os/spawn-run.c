/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that are run to their end, with their output: on top of spawn_process(). */
#include "os/spawn.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { RUN_TAIL_BYTES = 4096, RUN_ARGS_MAX = 64 };

/* Programs that we run, and the Debian package of each. */
static const struct {
	const char *program;
	const char *package;
} packages[] = {
	{ "debugfs", "e2fsprogs" },     { "dmsetup", "dmsetup" },
	{ "e2fsck", "e2fsprogs" },      { "ip", "iproute2" },
	{ "mke2fs", "e2fsprogs" },      { "mkfs.ext4", "e2fsprogs" },
	{ "mmdebstrap", "mmdebstrap" }, { "nft", "nftables" },
	{ "qemu-img", "qemu-utils" },   { "qemu-system-x86_64", "qemu-system-x86" },
	{ "resize2fs", "e2fsprogs" },   { "skopeo", "skopeo" },
};

static int program_missing(const char *program, struct err *e)
{
	const char *slash = strrchr(program, '/');
	const char *name = slash != NULL ? slash + 1 : program;
	const char *package = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(packages); i++)
		if (streq(packages[i].program, name))
			package = packages[i].package;
	if (package != NULL)
		err_set(e, ERR_UNSUPPORTED, "%s is missing: install the package %s", program,
			package);
	else
		err_set(e, ERR_UNSUPPORTED, "%s is missing", program);
	return -ENOENT;
}

int spawn_find(const char *name, char *out, size_t size, struct err *e)
{
	const char *env = getenv("PATH");
	auto_free char *dirs = str_printf("%s:/usr/bin:/usr/sbin:/sbin", env != NULL ? env : "");
	char *rest = dirs;
	char *dir;

	if (strchr(name, '/') != NULL) {
		if (str_fit(out, size, "%s", name) < 0 || access(out, X_OK) < 0)
			return program_missing(name, e);
		return 0;
	}
	while ((dir = strsep(&rest, ":")) != NULL) {
		if (dir[0] != '/' || str_fit(out, size, "%s/%s", dir, name) < 0)
			continue;
		if (access(out, X_OK) == 0)
			return 0;
	}
	return program_missing(name, e);
}

/* A program that spawn_run() follows to its end. */
struct run {
	const char *program;
	struct process process;
	int output_fd;    /* owned; -1 after end of file */
	struct buf *tail; /* borrowed: the newest bytes of output */
	struct buf line;  /* with @on_line: the line under way */
	void (*on_line)(const char *text, void *arg);
	void *arg;
	unsigned jail_uid; /* 0 = it runs as we do */
	int jail_fd;       /* borrowed */
};

static void run_done(struct run *run)
{
	fd_close(&run->output_fd);
	fd_close(&run->process.pidfd);
	buf_done(&run->line);
}

static void run_end_line(struct run *run)
{
	run->on_line(buf_str(&run->line), run->arg);
	buf_clear(&run->line);
}

static void run_feed_lines(struct run *run, const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (p[i] == '\n')
			run_end_line(run);
		else if (p[i] != '\r')
			ignore_err(buf_append(&run->line, &p[i], 1)); /* a long line is cut */
	}
}

static int run_take(struct run *run, const char *p, size_t n)
{
	struct buf *tail = run->tail;

	if (run->on_line != NULL)
		run_feed_lines(run, p, n);
	if (n > tail->max) {
		p += n - tail->max;
		n = tail->max;
	}
	if (n > buf_room(tail))
		buf_consume(tail, n - buf_room(tail));
	return buf_append(tail, p, n);
}

/* Reads until the program ended and what it had written by then is read. */
static int run_follow(struct run *run, const struct op *op)
{
	struct op own = op_child(op, 0);

	own.waited_ns = NULL; /* a program is run for work of ours */
	for (;;) {
		char chunk[4096];
		int r = op_wait_fd(&own, run->output_fd, POLLIN, run->process.pidfd);
		ssize_t n;

		if (r < 0)
			return r;
		if (r == 2)
			return 0;
		n = read(run->output_fd, chunk, sizeof(chunk));
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			fd_close(&run->output_fd);
		r = run_take(run, chunk, (size_t)n);
		if (r < 0)
			return r;
	}
}

/* Kills the group, whose leader is not reaped yet: its number cannot have been given anew. */
static void run_kill(struct run *run)
{
	struct pollfd p = { .fd = run->process.pidfd, .events = POLLIN };

	kill(-run->process.pid, SIGKILL);
	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
	ignore_err(spawn_reap(&run->process, NULL)); /* ended: nothing is left to learn */
}

/* The last line that is not blank, shortened to what fits a message. */
static void last_line(struct buf *b, char *out, size_t size)
{
	auto_free char *text = str_dup(buf_str(b));
	char *rest = text;
	char *line;

	out[0] = '\0';
	while ((line = strsep(&rest, "\n\r")) != NULL)
		if (line[strspn(line, " \t")] != '\0')
			str_copy(out, size, line + strspn(line, " \t"));
}

static int run_result(struct run *run, struct op *op)
{
	char line[256];
	int code = -1;
	int r = spawn_reap(&run->process, &code);

	if (r < 0)
		return err_errno(&op->err, -r, "wait for %s", run->program);
	if (run->on_line != NULL && run->line.len > 0)
		run_end_line(run);
	if (code == 0)
		return 0;
	last_line(run->tail, line, sizeof(line));
	if (code > 128)
		return err_set(&op->err, ERR_SYSTEM, "%s was killed by signal %d%s%s", run->program,
			       code - 128, line[0] != '\0' ? ": " : "", line);
	return err_set(&op->err, ERR_SYSTEM, "%s ended with code %d%s%s", run->program, code,
		       line[0] != '\0' ? ": " : "", line);
}

/* Text for stdin as a file: nobody has to write while the program runs. */
static int input_open(const char *text)
{
	auto_close int fd = memfd_create("input", MFD_CLOEXEC);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, text, strlen(text));
	if (r < 0)
		return r;
	if (lseek(fd, 0, SEEK_SET) < 0)
		return -errno;
	return take_fd(&fd);
}

static int run_spawn(struct run *run, const char *const *argv, int input_fd, struct err *e)
{
	char path[PATH_MAX];
	const char *args[RUN_ARGS_MAX] = { path };
	auto_close int write_end = -1;
	struct spawn_fd fds[4] = { { 0 } };
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	int ends[2];
	int r = spawn_find(argv[0], path, sizeof(path), e);

	if (r < 0)
		return r;
	for (size_t i = 1; argv[i] != NULL; i++) {
		if (i + 1 == ARRAY_SIZE(args))
			return err_set(e, ERR_INTERNAL, "run %s: too many arguments", argv[0]);
		args[i] = argv[i];
	}
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, errno, "run %s: make a pipe", argv[0]);
	run->output_fd = ends[0];
	write_end = ends[1];
	fds[spec.n_fds++] = (struct spawn_fd){ .from = write_end, .to = STDOUT_FILENO };
	fds[spec.n_fds++] = (struct spawn_fd){ .from = write_end, .to = STDERR_FILENO };
	if (input_fd >= 0)
		fds[spec.n_fds++] = (struct spawn_fd){ .from = input_fd, .to = STDIN_FILENO };
	if (run->jail_uid != 0) {
		fds[spec.n_fds++] = (struct spawn_fd){ .from = run->jail_fd, .to = 3 };
		spec.jail = true;
		spec.uid = spec.gid = run->jail_uid;
	}
	spec.argv = args;
	spec.fds = fds;
	spec.setsid = true; /* a process group to kill */
	spec.bound = true;
	return spawn_process(&spec, &run->process, e);
}

static int run_program(struct run *run, const char *const *argv, const char *input, struct op *op)
{
	auto_close int input_fd = input != NULL ? input_open(input) : -1;
	int r;

	if (input != NULL && input_fd < 0)
		return err_errno(&op->err, -input_fd, "run %s: keep its input", argv[0]);
	r = op_check(op);
	if (r < 0)
		return err_errno(&op->err, -r, "run %s", argv[0]);
	run->program = argv[0];
	r = run_spawn(run, argv, input_fd, &op->err);
	if (r < 0)
		return r;
	r = fd_set_nonblock(run->output_fd, true);
	if (r == 0)
		r = run_follow(run, op);
	if (r < 0) {
		run_kill(run);
		return err_errno(&op->err, -r, "run %s", argv[0]);
	}
	return run_result(run, op);
}

int spawn_run(const char *const *argv, const char *input, struct buf *output, struct op *op)
{
	auto_buf own = BUF_INIT(RUN_TAIL_BYTES);
	cleanup(run_done) struct run run = {
		.process = PROCESS_INIT,
		.output_fd = -1,
		.tail = output != NULL ? output : &own,
	};

	return run_program(&run, argv, input, op);
}

int spawn_run_jailed(const char *const *argv, int file_fd, unsigned uid, struct op *op)
{
	auto_buf tail = BUF_INIT(RUN_TAIL_BYTES);
	cleanup(run_done) struct run run = {
		.process = PROCESS_INIT,
		.output_fd = -1,
		.tail = &tail,
		.jail_uid = uid,
		.jail_fd = file_fd,
	};

	return run_program(&run, argv, NULL, op);
}

int spawn_run_lines(const char *const *argv, void (*line)(const char *text, void *arg), void *arg,
		    struct op *op)
{
	auto_buf tail = BUF_INIT(RUN_TAIL_BYTES);
	cleanup(run_done) struct run run = {
		.process = PROCESS_INIT,
		.output_fd = -1,
		.tail = &tail,
		.line = BUF_INIT(RUN_TAIL_BYTES),
		.on_line = line,
		.arg = arg,
	};

	return run_program(&run, argv, NULL, op);
}
