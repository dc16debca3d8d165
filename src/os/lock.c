/* SPDX-License-Identifier: Apache-2.0 */
#include "os/lock.h"

#include "os/spawn.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>

enum { LOCK_FD = 3 };

int lock_try(int fd)
{
	return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : 0;
}

/* A program that was killed ends, whatever the op says. */
static void end_program(const struct process *p)
{
	struct op op;

	op_init(&op, 0, -1);
	kill(p->pid, SIGKILL);
	ignore_err(op_wait_fd(&op, p->pidfd, POLLIN, -1));
}

/* flock(2) cannot be cancelled, a program can. It locks our open file, so the lock is ours after
 * it.
 */
int lock_wait(int fd, struct op *op)
{
	char program[PATH_MAX];
	const char *const argv[] = { program, "--exclusive", "3", NULL };
	const struct spawn_fd pass = { .from = fd, .to = LOCK_FD };
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	struct process p = PROCESS_INIT;
	int code = 0;
	int r = spawn_find("flock", program, sizeof(program), &op->err);

	if (r < 0)
		return r;
	spec.argv = argv;
	spec.fds = &pass;
	spec.n_fds = 1;
	spec.bound = true;
	r = spawn_process(&spec, &p, &op->err);
	if (r < 0)
		return r;
	r = op_wait_fd(op, p.pidfd, POLLIN, -1);
	if (r < 0)
		end_program(&p);
	ignore_err(spawn_reap(&p, &code)); /* ours, and at its end */
	if (r < 0)
		return err_errno(&op->err, -r, "wait for a lock");
	return code == 0 ? 0 : err_set(&op->err, ERR_SYSTEM, "flock ended with code %d", code);
}
