/* SPDX-License-Identifier: Apache-2.0 */
/* Starting a program as a user of the guest. */
#pragma once

#include "agent/user.h"
#include "base/macros.h"

/* Everything is borrowed. */
struct spawn_spec {
	const char *const *argv; /* ended by NULL */
	const char *const *envp; /* ended by NULL */
	const char *path;        /* PATH in which argv[0] is looked up if it has no slash */
	const char *cwd;
	const struct user *user;
	int procs_fd; /* cgroup.procs of the cgroup to join; -1 = none */
	int stdio[3]; /* each above 2 */
	bool tty;     /* stdio[0] is a terminal, which becomes the controlling one */
};

/* What the child could not do. */
enum spawn_stage {
	SPAWN_FORK,
	SPAWN_CGROUP,
	SPAWN_SESSION,
	SPAWN_USER,
	SPAWN_CWD,
	SPAWN_STDIO,
	SPAWN_EXEC
};

/**
 * spawn() - start a program in a session and process group of its own
 * @out_stage:	what failed
 *
 * Default signals, nothing open but stdio. All of the user's ids are set before the working
 * directory and the program are looked at, so both are found with the user's rights. Waits for the
 * exec. Return: pid; -errno (SPAWN_EXEC: -ENOENT not found, -EACCES and others found but not
 * executable).
 */
must_check pid_t spawn(const struct spawn_spec *spec, enum spawn_stage *out_stage);
