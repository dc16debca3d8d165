/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reaching vivd: connect to its socket, and start it when nobody listens there. Starting is done
 * under a lock, so that of several viv at once one starts it and the others wait; it counts as
 * started when it has written "ready" into the pipe it was given, which it does once it serves.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "cli/cli.h"
#include "os/lock.h"
#include "os/spawn.h"
#include "viv-config.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

enum { START_TIMEOUT_MS = 60000, LOG_MAX_BYTES = 1 << 20, LOG_TAIL_BYTES = 1000, READY_FD = 3 };

void cli_vivd_path(char *out, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n > 0) {
		self[n] = '\0';
		snprintf(out, size, "%s/vivd", dirname(self));
		if (access(out, X_OK) == 0)
			return;
	}
	str_copy(out, size, VIV_BINDIR "/vivd");
}

static int open_log(const char *path, struct op *op)
{
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_errno(&op->err, errno, "open %s", path);
	/* Each start may begin anew, so that the log of many starts stays small. */
	if (lseek(fd, 0, SEEK_END) > LOG_MAX_BYTES && ftruncate(fd, 0) < 0)
		return err_errno(&op->err, errno, "truncate %s", path);
	return take_fd(&fd);
}

/* What vivd wrote from @from on, its end: it says why it did not start. */
static void explain(const char *log_path, off_t from, struct op *op)
{
	auto_close int fd = open(log_path, O_RDONLY | O_CLOEXEC);
	char tail[LOG_TAIL_BYTES + 1] = "";
	off_t end = fd < 0 ? 0 : lseek(fd, 0, SEEK_END);
	ssize_t n = 0;

	if (end - from > LOG_TAIL_BYTES)
		from = end - LOG_TAIL_BYTES;
	if (fd >= 0 && end > from)
		n = pread(fd, tail, LOG_TAIL_BYTES, from);
	while (n > 0 && tail[n - 1] == '\n')
		n--;
	tail[MAX(n, 0)] = '\0';
	err_set(&op->err, ERR_SYSTEM, "vivd did not start (its log: %s):\n%s", log_path, tail);
}

static int wait_ready(int ready_fd, struct op *op)
{
	char word[16] = "";
	int r = op_wait_fd(op, ready_fd, POLLIN, -1);

	if (r < 0)
		return err_errno(&op->err, -r, "wait for vivd to start");
	return read(ready_fd, word, sizeof(word) - 1) > 0 && str_starts(word, "ready") ? 1 : 0;
}

static int spawn_vivd(const char *log_path, struct op *op)
{
	char path[PATH_MAX];
	const char *const argv[] = { path, "--ready-fd=3", NULL };
	auto_close int log_fd = open_log(log_path, op);
	off_t log_start = log_fd < 0 ? 0 : lseek(log_fd, 0, SEEK_END);
	auto_close int ready_read = -1;
	auto_close int ready_write = -1;
	struct process process = PROCESS_INIT;
	int pipe_fds[2];
	int r;

	if (log_fd < 0)
		return log_fd;
	cli_vivd_path(path, sizeof(path));
	if (pipe2(pipe_fds, O_CLOEXEC) < 0)
		return err_errno(&op->err, errno, "make a pipe");
	ready_read = pipe_fds[0];
	ready_write = pipe_fds[1];
	r = spawn_process(
		&(struct spawn_spec){ .argv = argv,
				      .envp = (const char *const *)environ,
				      .fds = (struct spawn_fd[]){ { log_fd, STDERR_FILENO },
								  { ready_write, READY_FD } },
				      .n_fds = 2,
				      .cgroup_fd = -1,
				      .netns_fd = -1,
				      .setsid = true },
		&process, &op->err);
	if (r < 0)
		return r;
	fd_close(&process.pidfd); /* it outlives us */
	fd_close(&ready_write);
	r = wait_ready(ready_read, op);
	if (r == 0)
		explain(log_path, log_start, op);
	return r > 0 ? 0 : r < 0 ? r : -EIO;
}

/* Whoever holds the lock is starting a vivd, and gives up after that time. */
static int take_lock(int fd, const char *path, struct op *op)
{
	int r = lock_try(fd);

	if (r == 0)
		return 0;
	if (r != -EWOULDBLOCK)
		return err_errno(&op->err, -r, "lock %s", path);
	r = lock_wait(fd, op);
	if (r != -ETIMEDOUT)
		return r;
	op->err = (struct err){ 0 };
	return err_set(&op->err, ERR_TIMEOUT,
		       "another viv has been starting vivd for %d s: end the one that holds %s, or "
		       "see vivd.log beside that",
		       START_TIMEOUT_MS / 1000, path);
}

static int start_locked(struct cli *cli, struct op *op)
{
	auto_free char *lock_path = str_printf("%s/viv-start.lock", cli->run_dir);
	auto_free char *log_path = str_printf("%s/vivd.log", cli->run_dir);
	auto_close int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct op quiet = op_child(op, 0);
	int r;

	if (lock < 0)
		return err_errno(&op->err, errno, "open %s", lock_path);
	r = take_lock(lock, lock_path, op);
	if (r < 0)
		return r;
	/* Another viv may have started it while we waited for the lock. */
	if (http_client_connect_unix(&cli->client, cli->socket, &quiet) == 0)
		return 0;
	fprintf(stderr, "viv: starting vivd\n");
	return spawn_vivd(log_path, op);
}

int cli_denied(const struct cli *cli, struct op *op)
{
	return err_set(
		&op->err, ERR_SYSTEM,
		"no permission to use %s: be root (sudo viv ...), or join the group vivarium",
		cli->socket);
}

static int start_vivd(struct cli *cli, struct op *op)
{
	struct op child = op_child(op, START_TIMEOUT_MS);
	int r;

	if (geteuid() != 0)
		return err_set(
			&op->err, ERR_SYSTEM,
			"vivd is not running, and to start it one has to be root: sudo viv ...");
	r = file_mkdirs(cli->run_dir);
	if (r < 0)
		return err_errno(&op->err, -r, "make directory %s", cli->run_dir);
	r = start_locked(cli, &child);
	op->err = child.err;
	return r;
}

bool cli_still_open(const struct http_client *c)
{
	struct pollfd p = { .fd = c->fd, .events = POLLIN };

	/* Nothing is to come between two requests but the end. */
	return c->fd >= 0 && c->reusable && poll(&p, 1, 0) == 0;
}

int cli_connect(struct cli *cli, struct op *op)
{
	struct op first = op_child(op, 0);
	int r;

	if (cli_still_open(&cli->client))
		return 0;
	http_client_done(&cli->client);
	r = http_client_connect_unix(&cli->client, cli->socket, &first);
	if (r == 0)
		return 0;
	if (r == -EACCES)
		return cli_denied(cli, op);
	if ((r != -ENOENT && r != -ECONNREFUSED) || cli->socket_given) {
		op->err = first.err;
		return err_wrap(&op->err, "reach vivd");
	}
	r = start_vivd(cli, op);
	if (r < 0 || cli->client.fd >= 0)
		return r;
	return http_client_connect_unix(&cli->client, cli->socket, op);
}
