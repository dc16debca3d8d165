/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The parent prepares everything that the child needs: strings, the table of descriptors, the
 * report pipe. Then clone3(2) copies the process, and the child walks child_steps[] with raw system
 * calls only: other threads of the parent may have held any lock at that instant, malloc's among
 * them, and glibc's setuid family would signal threads that the child does not have. The last step
 * is execve(2), which closes the pipe. So for the parent, end of file on the pipe means that the
 * program runs, and a report means that the step it names failed with the errno it holds.
 *
 * All signals are blocked across the clone, so that no handler of the parent ever runs in the
 * child.
 *
 * Descriptors: all are first copied to numbers above the highest target, then marked close-on-exec
 * as a whole, then put in place, so that mappings may overlap in any way ({3 to 4, 4 to 3}).
 */
#include "os/spawn.h"

#include "base/fd.h"
#include "base/sig.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STDIO_N = 3, SPAWN_FD_MAX = 1023, CAPABILITY_N = 64, FILES_OF_CHILD = 1024 };

static const char *const minimal_env[] = {
	"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	"LANG=C.UTF-8",
	NULL,
};

/* What the child works on; made before the clone. */
struct launch {
	const struct spawn_spec *spec;
	char *const *argv;
	char *const *envp;
	struct spawn_fd *fds; /* the spec's and what fills 0 to 2 */
	size_t n_fds;
	int report_fd;
	pid_t parent;
};

/* What the child writes when a step fails. */
struct report {
	int step;
	int code;
};

static int result(long r)
{
	return r < 0 ? -errno : 0;
}

/* A parent that died before it was asked for cannot be told of any more. */
static int child_bound(struct launch *l)
{
	if (!l->spec->bound)
		return 0;
	if (prctl(PR_SET_PDEATHSIG, (unsigned long)SIGKILL, 0UL, 0UL, 0UL) < 0)
		return -errno;
	return getppid() == l->parent ? 0 : -ESRCH;
}

static int child_session(struct launch *l)
{
	return l->spec->setsid ? result(setsid()) : 0;
}

static int child_netns(struct launch *l)
{
	return l->spec->netns_fd >= 0 ? result(setns(l->spec->netns_fd, CLONE_NEWNET)) : 0;
}

static int child_fds(struct launch *l)
{
	int above = STDIO_N;

	for (size_t i = 0; i < l->n_fds; i++)
		above = MAX(above, l->fds[i].to + 1);
	l->report_fd = fcntl(l->report_fd, F_DUPFD_CLOEXEC, above);
	if (l->report_fd < 0)
		return -errno;
	for (size_t i = 0; i < l->n_fds; i++) {
		l->fds[i].from = fcntl(l->fds[i].from, F_DUPFD_CLOEXEC, above);
		if (l->fds[i].from < 0)
			return -errno;
	}
	if (syscall(SYS_close_range, STDIO_N, ~0U, CLOSE_RANGE_CLOEXEC) < 0)
		return -errno;
	/* A raw call: TSan saw no fork(), and would take libc's for one on the parent's. */
	for (size_t i = 0; i < l->n_fds; i++)
		if (syscall(SYS_dup3, l->fds[i].from, l->fds[i].to, 0) < 0)
			return -errno;
	return 0;
}

static int child_signals(struct launch *l)
{
	(void)l;
	return sig_reset();
}

/* The bounding set goes while there still is the capability to drop it, that is before the uid. */
static int child_bounding_set(struct launch *l)
{
	if (!l->spec->jail)
		return 0;
	for (unsigned long cap = 0; cap < CAPABILITY_N; cap++) {
		if (prctl(PR_CAPBSET_DROP, cap, 0UL, 0UL, 0UL) == 0)
			continue;
		if (errno == EINVAL && cap > 0)
			break; /* past the last that this kernel knows */
		return -errno;
	}
	return result(
		prctl(PR_CAP_AMBIENT, (unsigned long)PR_CAP_AMBIENT_CLEAR_ALL, 0UL, 0UL, 0UL));
}

static int child_ids(struct launch *l)
{
	const struct spawn_spec *s = l->spec;

	if (!s->jail)
		return 0;
	if (syscall(SYS_setgroups, 0, NULL) < 0)
		return -errno;
	if (syscall(SYS_setresgid, s->gid, s->gid, s->gid) < 0)
		return -errno;
	return result(syscall(SYS_setresuid, s->uid, s->uid, s->uid));
}

static int child_capabilities(struct launch *l)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { { 0 } };

	return l->spec->jail ? result(syscall(SYS_capset, &head, none)) : 0;
}

/* Not the many that a daemon may have: above, select(2) breaks, and some programs walk them all. */
static int child_descriptors(struct launch *l)
{
	struct rlimit files;

	if (getrlimit(RLIMIT_NOFILE, &files) < 0)
		return -errno;
	files.rlim_cur = MIN(files.rlim_cur, (rlim_t)FILES_OF_CHILD);
	if (l->spec->jail)
		files.rlim_max = files.rlim_cur;
	return result(setrlimit(RLIMIT_NOFILE, &files));
}

/* No core files either: one of a VMM would hold its guest's memory. */
static int child_privileges(struct launch *l)
{
	struct rlimit no_core = { 0 };

	if (!l->spec->jail)
		return 0;
	if (setrlimit(RLIMIT_CORE, &no_core) < 0)
		return -errno;
	return result(prctl(PR_SET_NO_NEW_PRIVS, 1UL, 0UL, 0UL, 0UL));
}

static int child_exec(struct launch *l)
{
	return result(execve(l->argv[0], l->argv, l->envp));
}

static const struct {
	const char *name;
	int (*run)(struct launch *l);
} child_steps[] = {
	{ "be bound to its parent", child_bound },
	{ "start a session", child_session },
	{ "enter the network namespace", child_netns },
	{ "pass descriptors", child_fds },
	{ "reset signals", child_signals },
	{ "limit open files", child_descriptors },
	{ "empty the capability bounding set", child_bounding_set },
	{ "change user and group", child_ids },
	{ "give up capabilities", child_capabilities },
	{ "give up new privileges", child_privileges },
	{ "exec", child_exec },
};

static _Noreturn void child_main(struct launch *l)
{
	for (int i = 0; i < (int)ARRAY_SIZE(child_steps); i++) {
		int r = child_steps[i].run(l);

		if (r < 0) {
			struct report report = { .step = i, .code = -r };

			if (write(l->report_fd, &report, sizeof(report)) < 0)
				_exit(126);
			break;
		}
	}
	_exit(127);
}

static int clone_child(struct launch *l, struct process *out)
{
	const struct spawn_spec *s = l->spec;
	int pidfd = -1;
	struct clone_args args = {
		.flags = CLONE_PIDFD | (s->cgroup_fd >= 0 ? CLONE_INTO_CGROUP : 0),
		.pidfd = (uint64_t)(uintptr_t)&pidfd,
		.exit_signal = SIGCHLD,
		.cgroup = s->cgroup_fd >= 0 ? (uint64_t)s->cgroup_fd : 0,
	};
	sigset_t all;
	sigset_t old;
	long pid;
	int code;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	pid = syscall(SYS_clone3, &args, sizeof(args));
	code = errno;
	if (pid == 0)
		child_main(l);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return -code;
	*out = (struct process){ .pid = (pid_t)pid, .pidfd = pidfd };
	return 0;
}

static int clone_failed(const struct spawn_spec *s, int r, struct err *e)
{
	if (s->cgroup_fd < 0)
		return err_errno(e, -r, "start %s: clone3", s->argv[0]);
	if (r == -ENOSYS || r == -EINVAL || r == -E2BIG)
		return err_errno(e, -r,
				 "start %s: this kernel cannot clone into a cgroup (Linux 5.7 can)",
				 s->argv[0]);
	return err_errno(e, -r, "start %s: clone into its cgroup", s->argv[0]);
}

/* The table of descriptors: the spec's, and /dev/null for those of 0 to 2 that it does not name. */
static void launch_fill_fds(struct launch *l, int null_fd)
{
	bool given[STDIO_N] = { false };
	const struct spawn_spec *s = l->spec;

	for (size_t i = 0; i < s->n_fds; i++) {
		l->fds[l->n_fds++] = s->fds[i];
		if (s->fds[i].to < STDIO_N)
			given[s->fds[i].to] = true;
	}
	for (int fd = 0; fd < STDIO_N; fd++)
		if (!given[fd])
			l->fds[l->n_fds++] = (struct spawn_fd){ .from = null_fd, .to = fd };
}

static int spec_check(const struct spawn_spec *s, struct err *e)
{
	if (s->argv[0] == NULL || strchr(s->argv[0], '/') == NULL)
		return err_set(e, ERR_INVALID, "start a program: its path has no slash");
	if (s->jail && (s->uid == 0 || s->gid == 0))
		return err_set(e, ERR_INVALID, "start %s: a jailed process is never root",
			       s->argv[0]);
	for (size_t i = 0; i < s->n_fds; i++)
		if (s->fds[i].from < 0 || s->fds[i].to < 0 || s->fds[i].to > SPAWN_FD_MAX)
			return err_set(e, ERR_INVALID, "start %s: cannot pass descriptor %d as %d",
				       s->argv[0], s->fds[i].from, s->fds[i].to);
	return 0;
}

/* Waits for the exec, or takes the report of the step that failed and the dead child. */
static int await_exec(const struct spawn_spec *s, int report_fd, struct process *p, struct err *e)
{
	struct report report;
	ssize_t n = fd_read_full(report_fd, &report, sizeof(report));
	siginfo_t info;
	int r;

	if (n == 0)
		return 0;
	while (waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED) < 0 && errno == EINTR)
		;
	fd_close(&p->pidfd);
	p->pid = 0;
	if (n != sizeof(report))
		return err_set(e, ERR_INTERNAL, "start %s: lost the child's report", s->argv[0]);
	r = err_errno(e, report.code, "%s %s", child_steps[report.step].name, s->argv[0]);
	if (child_steps[report.step].run == child_exec)
		return r;
	return err_wrap(e, "start a process");
}

int spawn_process(const struct spawn_spec *spec, struct process *out, struct err *e)
{
	struct process p = PROCESS_INIT;
	auto_close int null_fd = -1;
	auto_close int report_rd = -1;
	auto_close int report_wr = -1;
	auto_free struct spawn_fd *fds = NULL;
	struct launch l = { .spec = spec, .parent = getpid() };
	int ends[2];
	int r = spec_check(spec, e);

	if (r < 0)
		return r;
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0)
		return err_errno(e, errno, "open /dev/null");
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_errno(e, errno, "start %s: make a pipe", spec->argv[0]);
	report_rd = ends[0];
	report_wr = ends[1];

	fds = xcalloc(spec->n_fds + STDIO_N, sizeof(*fds));
	l.fds = fds;
	l.report_fd = report_wr;
	l.argv = (char *const *)(uintptr_t)
			 spec->argv; /* execve(2) changes neither strings nor table */
	l.envp = (char *const *)(uintptr_t)(spec->envp != NULL ? spec->envp : minimal_env);
	launch_fill_fds(&l, null_fd);
	r = clone_child(&l, &p);
	if (r < 0)
		return clone_failed(spec, r, e);
	fd_close(&report_wr);
	r = await_exec(spec, report_rd, &p, e);
	if (r == 0)
		*out = p;
	return r;
}

int spawn_reap(struct process *p, int *out_code)
{
	siginfo_t info = { 0 };
	int r;

	do
		r = result(waitid(P_PIDFD, (id_t)p->pidfd, &info, WEXITED | WNOHANG));
	while (r == -EINTR);
	if (r == 0 && info.si_pid == 0)
		return 0;
	if (r < 0 && r != -ECHILD)
		return r;
	fd_close(&p->pidfd);
	p->pid = 0;
	if (r < 0)
		return r;
	if (out_code != NULL)
		*out_code = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
	return 1;
}
