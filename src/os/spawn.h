/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes: the one place that clones. clone3(2) with CLONE_PIDFD and, where asked,
 * CLONE_INTO_CGROUP; between clone and exec only raw, async-signal-safe system calls on memory that
 * was prepared before. A failure in the child (which call, which errno) comes back by a pipe.
 */
#pragma once

#include "base/buf.h"
#include "base/op.h"

#include <sys/types.h>

struct spawn_fd {
	int from; /* borrowed */
	int to;   /* its number in the child, 0 to 1023 */
};

struct spawn_spec {
	const char *const *argv;    /* ended by NULL; argv[0] is a path with a slash */
	const char *const *envp;    /* ended by NULL; NULL = a minimal one (PATH, LANG=C.UTF-8) */
	const struct spawn_fd *fds; /* all others are closed; 0 to 2 default to /dev/null */
	size_t n_fds;
	int cgroup_fd; /* directory of a fresh cgroup v2 to be born in; -1 = the parent's */
	int netns_fd;  /* network namespace to enter; -1 = the parent's */
	unsigned uid;  /* with @jail: ids to become */
	unsigned gid;
	bool jail;   /* empty bounding set, no supplementary groups, uid and gid, no capabilities,
		      * PR_SET_NO_NEW_PRIVS, no core files, 1024 open files and never more */
	bool setsid; /* a session of its own: signals of a terminal do not reach it */
	bool bound;  /* killed when the thread that starts it ends, or its process */
};

#define SPAWN_SPEC_INIT                                                                            \
	{                                                                                          \
		.cgroup_fd = -1, .netns_fd = -1                                                    \
	}

struct process {
	pid_t pid; /* 0 = none */
	int pidfd; /* owned; readable when the process ended */
};

#define PROCESS_INIT                                                                               \
	{                                                                                          \
		.pidfd = -1                                                                        \
	}

/**
 * spawn_process() - start a program
 * @out:	its pid and pidfd; the caller owns the pidfd and must reap with spawn_reap()
 *
 * Thread: worker (waits for the exec). Return: 0; -errno, @e names the step that failed
 * ("exec /usr/bin/qemu-system-x86_64: No such file or directory").
 */
must_check int spawn_process(const struct spawn_spec *spec, struct process *out, struct err *e);

/**
 * spawn_reap() - take the exit status of a child that ended, close its pidfd
 * @out_code:	exit code, or 128 + signal; may be NULL
 *
 * Return: 1 reaped; 0 still running; -ECHILD not a child of ours (after a daemon restart): the
 * pidfd is closed and the code unknown.
 */
must_check int spawn_reap(struct process *p, int *out_code);

/**
 * spawn_find() - find a program
 * @name:	a path with a slash, or a bare name, looked up in PATH plus /usr/sbin:/sbin
 * @out:	array of @size bytes
 *
 * Return: 0; -ENOENT with @e set: a missing program names the package to install when it is one of
 * ours.
 */
must_check int spawn_find(const char *name, char *out, size_t size, struct err *e);

/**
 * spawn_run() - run a program to its end
 * @argv:	argv[0] may be a bare name, looked up in PATH plus /usr/sbin:/sbin
 * @input:	text for its stdin; NULL = /dev/null
 * @output:	stdout and stderr, as much as fits (its tail is what counts: older bytes are
 *		dropped); may be NULL
 *
 * When the op ends first, the program's process group is killed and reaped; when this process is
 * killed, so is the program.
 * Thread: worker. Return: 0 exit code 0; -errno otherwise with op->err set: program, exit code and
 * the last line of its output; a missing program names the package to install when it is one of
 * ours.
 */
must_check int spawn_run(const char *const *argv, const char *input, struct buf *output,
			 struct op *op);

/**
 * spawn_run_jailed() - as spawn_run(), for a program that reads what nobody can answer for: without
 * any privilege, as a user of its own
 * @file_fd:	its descriptor 3, which is all that it is given; it can open /proc/self/fd/3 anew if
 *		the file is @uid's
 */
must_check int spawn_run_jailed(const char *const *argv, int file_fd, unsigned uid, struct op *op);

/**
 * spawn_run_lines() - as spawn_run(), giving each line of output to @line as it comes (for
 * progress)
 */
must_check int spawn_run_lines(const char *const *argv, void (*line)(const char *text, void *arg),
			       void *arg, struct op *op);
