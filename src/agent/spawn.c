/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Between fork and exec the child makes only system calls and copies within
 * its stack (no malloc, no stdio). Credentials are set by raw system calls, since glibc's wrappers
 * would signal threads that the child does not have. A failure comes back over a close-on-exec pipe
 * as {stage, errno}; end of file there says that the exec went well. The child is reaped here if it
 * never became the program. All signals are blocked over the fork, so that no handler of ours runs
 * in the child.
 */
#include "agent/spawn.h"

#include "base/fd.h"
#include "base/sig.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/close_range.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct report {
	int stage;
	int code;
};

static int become_user(const struct user *u)
{
	/* Without a right to change them they must be ours already (the agent run by hand). */
	if (geteuid() != 0 && u->uid == geteuid())
		return 0;
	if (syscall(SYS_setgroups, u->n_groups, u->groups) < 0 ||
	    syscall(SYS_setresgid, u->gid, u->gid, u->gid) < 0 ||
	    syscall(SYS_setresuid, u->uid, u->uid, u->uid) < 0)
		return -errno;
	return 0;
}

static int set_stdio(const int stdio[3])
{
	for (int i = 0; i < 3; i++)
		if (dup3(stdio[i], i, 0) < 0)
			return -errno;
	return 0;
}

static int exec_at(const struct spawn_spec *spec, const char *path)
{
	execve(path, (char *const *)(uintptr_t)spec->argv, (char *const *)(uintptr_t)spec->envp);
	return -errno;
}

/* One element of PATH; an empty one is the working directory. */
static int exec_in(const struct spawn_spec *spec, const char *dir, size_t n)
{
	const char *name = spec->argv[0];
	char path[PATH_MAX];

	if (n == 0) {
		dir = ".";
		n = 1;
	}
	if (n + 1 + strlen(name) >= sizeof(path))
		return -ENOENT; /* longer than any path can be */
	memcpy(path, dir, n);
	path[n] = '/';
	memcpy(path + n + 1, name, strlen(name) + 1);
	return exec_at(spec, path);
}

/* Looks for the program as execvp(3) does; one that is there but cannot be run is told in the end.
 */
static int exec_program(const struct spawn_spec *spec)
{
	const char *dir = spec->path;
	int found = -ENOENT;

	if (strchr(spec->argv[0], '/') != NULL)
		return exec_at(spec, spec->argv[0]);
	for (;;) {
		size_t n = strcspn(dir, ":");
		int r = exec_in(spec, dir, n);

		if (r == -EACCES)
			found = r;
		else if (r != -ENOENT && r != -ENOTDIR)
			return r;
		if (dir[n] == '\0')
			return found;
		dir += n + 1;
	}
}

/* In the child: goes as far as it can. Returns only when something failed. */
static struct report become(const struct spawn_spec *spec)
{
	int r;

	ignore_err(sig_reset()); /* the arguments are valid */
	if (spec->procs_fd >= 0 && write(spec->procs_fd, "0", 1) != 1)
		return (struct report){ SPAWN_CGROUP, errno };
	if (setsid() < 0)
		return (struct report){ SPAWN_SESSION, errno };
	if (spec->tty && ioctl(spec->stdio[0], TIOCSCTTY, 0) < 0)
		return (struct report){ SPAWN_SESSION, errno };
	r = become_user(spec->user);
	if (r < 0)
		return (struct report){ SPAWN_USER, -r };
	if (chdir(spec->cwd) < 0)
		return (struct report){ SPAWN_CWD, errno };
	r = set_stdio(spec->stdio);
	if (r < 0)
		return (struct report){ SPAWN_STDIO, -r };
	/* Every descriptor of ours is close-on-exec already: a kernel before 5.11 loses nothing. */
	ignore_err((int)syscall(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC));
	umask(022);
	r = exec_program(spec);
	return (struct report){ SPAWN_EXEC, -r };
}

static pid_t fork_child(const struct spawn_spec *spec, int tell_fd)
{
	sigset_t all;
	sigset_t before;
	pid_t pid;

	sigfillset(&all);
	ignore_err(sigprocmask(SIG_SETMASK, &all, &before)); /* the arguments are valid */
	pid = fork();
	if (pid == 0) {
		struct report report = become(spec);

		/* If even this fails the parent sees an exec that went well and an exit of 127. */
		ignore_err((int)write(tell_fd, &report, sizeof(report)));
		_exit(127);
	}
	if (pid < 0)
		pid = -errno;
	ignore_err(sigprocmask(SIG_SETMASK, &before, NULL)); /* the arguments are valid */
	return pid;
}

static void reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

pid_t spawn(const struct spawn_spec *spec, enum spawn_stage *out_stage)
{
	auto_close int hear_fd = -1;
	auto_close int tell_fd = -1;
	struct report report;
	int fds[2];
	pid_t pid;

	*out_stage = SPAWN_FORK;
	if (pipe2(fds, O_CLOEXEC) < 0)
		return -errno;
	hear_fd = fds[0];
	tell_fd = fds[1];
	pid = fork_child(spec, tell_fd);
	if (pid < 0)
		return pid;
	fd_close(&tell_fd);
	if (fd_read_full(hear_fd, &report, sizeof(report)) != sizeof(report))
		return pid;
	reap(pid);
	*out_stage = (enum spawn_stage)report.stage;
	return -report.code;
}
