/* SPDX-License-Identifier: Apache-2.0 */
#include "os/spawn.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/str.h"
#include "os/cgroup.h"
#include "patience.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { JAIL_UID = 64321, JAIL_GID = 64322 };

static struct op op;

static void setup(void)
{
	op_init(&op, patient_ms(10000), -1);
}

/* Waits for a child's end. Return: its code. */
static int wait_code(struct process *p)
{
	int code = -1;

	ck_assert_int_eq(op_wait_fd(&op, p->pidfd, POLLIN, -1), 1);
	ck_assert_int_eq(spawn_reap(p, &code), 1);
	ck_assert_int_eq(p->pidfd, -1);
	return code;
}

static int temp_file(const char *text)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	ck_assert_int_ge(fd, 3);
	ck_assert_int_eq(fd_write_all(fd, text, strlen(text)), 0);
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

static void read_all(int fd, char *out, size_t size)
{
	ssize_t n = pread(fd, out, size - 1, 0);

	ck_assert_int_ge(n, 0);
	out[n] = '\0';
}

/* Runs a shell script with a spec, its output in a file. Return: its exit code. */
static int run_script(struct spawn_spec *spec, const char *script, char *out, size_t size)
{
	const char *argv[] = { "/bin/sh", "-c", script, NULL };
	struct process p = PROCESS_INIT;
	auto_close int fd = temp_file("");
	struct spawn_fd fds[8] = { { 0 } };
	int code;

	for (size_t i = 0; i < spec->n_fds; i++)
		fds[i] = spec->fds[i];
	fds[spec->n_fds++] = (struct spawn_fd){ .from = fd, .to = 1 };
	spec->fds = fds;
	spec->argv = argv;
	ck_assert_msg(spawn_process(spec, &p, &op.err) == 0, "%s", op.err.msg);
	code = wait_code(&p);
	read_all(fd, out, size);
	return code;
}

START_TEST(exit_codes)
{
	static const char *const scripts[] = { "exit 0", "exit 7", "kill -TERM $$" };
	static const int codes[] = { 0, 7, 128 + SIGTERM };
	char out[16];

	for (size_t i = 0; i < ARRAY_SIZE(codes); i++) {
		struct spawn_spec spec = SPAWN_SPEC_INIT;

		ck_assert_int_eq(run_script(&spec, scripts[i], out, sizeof(out)), codes[i]);
	}
}
END_TEST

START_TEST(missing_program)
{
	const char *argv[] = { "/nonexistent/program", NULL };
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	struct process p = PROCESS_INIT;

	spec.argv = argv;
	ck_assert_int_eq(spawn_process(&spec, &p, &op.err), -ENOENT);
	ck_assert_str_eq(op.err.msg, "exec /nonexistent/program: No such file or directory");
	ck_assert_int_eq(p.pidfd, -1);
}
END_TEST

START_TEST(failing_step_is_named)
{
	const char *argv[] = { "/bin/true", NULL };
	auto_close int file = temp_file("no namespace");
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	struct process p = PROCESS_INIT;

	spec.argv = argv;
	spec.netns_fd = file;
	ck_assert_int_eq(spawn_process(&spec, &p, &op.err), -EINVAL);
	ck_assert_ptr_nonnull(strstr(op.err.msg, "enter the network namespace /bin/true"));
}
END_TEST

START_TEST(refuses_root_in_jail_and_bad_fds)
{
	const char *argv[] = { "/bin/true", NULL };
	struct spawn_fd bad = { .from = -1, .to = 5 };
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	struct process p = PROCESS_INIT;

	spec.argv = argv;
	spec.jail = true;
	ck_assert_int_eq(spawn_process(&spec, &p, &op.err), -EINVAL);
	op.err = (struct err){ 0 };
	spec.jail = false;
	spec.fds = &bad;
	spec.n_fds = 1;
	ck_assert_int_eq(spawn_process(&spec, &p, &op.err), -EINVAL);
}
END_TEST

static void assert_line(const char *text, const char *key, const char *value)
{
	const char *at = strstr(text, key);

	ck_assert_msg(at != NULL, "no %s in:\n%s", key, text);
	ck_assert_msg(str_starts(at + strlen(key), value), "%s is not %s in:\n%s", key, value,
		      text);
}

START_TEST(jail)
{
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	char out[4096];

	spec.jail = true;
	spec.setsid = true;
	spec.uid = JAIL_UID;
	spec.gid = JAIL_GID;
	ck_assert_int_eq(run_script(&spec,
				    "cat /proc/self/status; ulimit -c; ulimit -Sn; ulimit -Hn", out,
				    sizeof(out)),
			 0);
	assert_line(out, "\nUid:", "\t64321\t64321\t64321\t64321");
	assert_line(out, "\nGid:", "\t64322\t64322\t64322\t64322");
	assert_line(out, "\nGroups:", "\t \n");
	assert_line(out, "\nCapInh:", "\t0000000000000000");
	assert_line(out, "\nCapPrm:", "\t0000000000000000");
	assert_line(out, "\nCapEff:", "\t0000000000000000");
	assert_line(out, "\nCapBnd:", "\t0000000000000000");
	assert_line(out, "\nCapAmb:", "\t0000000000000000");
	assert_line(out, "\nNoNewPrivs:", "\t1");
	ck_assert(str_ends(out, "\n0\n1024\n1024\n"));
}
END_TEST

START_TEST(signals_are_reset)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	sigset_t term;
	char out[4096];

	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	ck_assert_int_eq(sigaction(SIGPIPE, &ignore, NULL), 0);
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, &term, NULL), 0);
	ck_assert_int_eq(run_script(&spec, "exec cat /proc/self/status", out, sizeof(out)), 0);
	assert_line(out, "\nSigBlk:", "\t0000000000000000");
	assert_line(out, "\nSigIgn:", "\t0000000000000000");
}
END_TEST

/* Two files that change places, one that moves onto a source, one target that is the report pipe's.
 */
START_TEST(fds_may_overlap)
{
	auto_close int a = temp_file("a");
	auto_close int b = temp_file("b");
	auto_close int c = temp_file("c");
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	struct spawn_fd fds[8] = {
		{ .from = a, .to = b },     { .from = b, .to = a },     { .from = c, .to = c },
		{ .from = c, .to = c + 1 }, { .from = a, .to = c + 2 }, { .from = b, .to = c + 3 },
	};
	char script[256];
	char out[64];

	snprintf(script, sizeof(script),
		 "cat <&%d; cat /proc/self/fd/%d /dev/fd/%d; cat /dev/fd/%d", b, a, c, c + 1);
	spec.fds = fds;
	spec.n_fds = 6;
	ck_assert_int_eq(run_script(&spec, script, out, sizeof(out)), 0);
	ck_assert_str_eq(out, "abcc");
}
END_TEST

START_TEST(other_fds_are_closed)
{
	int leaky = open("/dev/null", O_RDONLY); /* without O_CLOEXEC, as a library might */
	auto_close int given = temp_file("x");
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	struct spawn_fd fds[8] = { { .from = given, .to = 9 } };
	char out[256];

	ck_assert_int_ge(leaky, 3);
	spec.fds = fds;
	spec.n_fds = 1;
	ck_assert_int_eq(
		run_script(&spec, "cd /proc/$$/fd && readlink 0 2 && echo *", out, sizeof(out)), 0);
	close(leaky);
	/* 3 is the directory that the shell reads for its list. */
	ck_assert_str_eq(out, "/dev/null\n/dev/null\n0 1 2 3 9\n");
}
END_TEST

START_TEST(environment)
{
	static const char *const own[] = { "X=1", NULL };
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	char out[256];

	ck_assert_int_eq(setenv("SECRET", "s", 1), 0);
	ck_assert_int_eq(run_script(&spec, "echo ${SECRET-none} $LANG", out, sizeof(out)), 0);
	ck_assert_str_eq(out, "none C.UTF-8\n");
	spec = (struct spawn_spec)SPAWN_SPEC_INIT;
	spec.envp = own;
	ck_assert_int_eq(run_script(&spec, "echo $X", out, sizeof(out)), 0);
	ck_assert_str_eq(out, "1\n");
}
END_TEST

START_TEST(reap_of_the_running_and_of_strangers)
{
	const char *argv[] = { "/bin/cat", NULL };
	int ends[2];
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	struct spawn_fd in = { .to = 0 };
	struct process p = PROCESS_INIT;
	struct process init = { .pid = 1, .pidfd = -1 };

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	in.from = ends[0];
	spec.argv = argv;
	spec.fds = &in;
	spec.n_fds = 1;
	ck_assert_int_eq(spawn_process(&spec, &p, &op.err), 0);
	ck_assert_int_eq(spawn_reap(&p, NULL), 0);
	close(ends[1]);
	ck_assert_int_eq(wait_code(&p), 0);
	close(ends[0]);

	init.pidfd = pidfd_open(1, 0);
	ck_assert_int_ge(init.pidfd, 0);
	ck_assert_int_eq(spawn_reap(&init, NULL), -ECHILD);
	ck_assert_int_eq(init.pidfd, -1);
}
END_TEST

START_TEST(run_output_and_input)
{
	const char *argv[] = { "sh", "-c", "cat; echo err >&2", NULL };
	auto_buf out = BUF_INIT(1000);

	ck_assert_int_eq(spawn_run(argv, "text\n", &out, &op), 0);
	ck_assert_str_eq(buf_str(&out), "text\nerr\n");
}
END_TEST

START_TEST(run_keeps_the_tail)
{
	const char *argv[] = { "sh", "-c", "seq 100000; exit 3", NULL };
	auto_buf out = BUF_INIT(20);

	ck_assert_int_eq(spawn_run(argv, NULL, &out, &op), -EIO);
	ck_assert_str_eq(buf_str(&out), "\n99998\n99999\n100000\n");
	ck_assert_str_eq(op.err.msg, "sh ended with code 3: 100000");
}
END_TEST

START_TEST(run_errors)
{
	const char *killed[] = { "sh", "-c", "kill -9 $$", NULL };
	const char *missing[] = { "viv-no-such-program", NULL };
	const char *packaged[] = { "/nonexistent/qemu-system-x86_64", NULL };

	ck_assert_int_eq(spawn_run(killed, NULL, NULL, &op), -EIO);
	ck_assert_str_eq(op.err.msg, "sh was killed by signal 9");
	setup();
	ck_assert_int_eq(spawn_run(missing, NULL, NULL, &op), -ENOENT);
	ck_assert_str_eq(op.err.msg, "viv-no-such-program is missing");
	setup();
	ck_assert_int_eq(spawn_run(packaged, NULL, NULL, &op), -ENOENT);
	ck_assert_ptr_nonnull(strstr(op.err.msg, "install the package qemu-system-x86"));
	ck_assert_int_eq(op.err.kind, ERR_UNSUPPORTED);
}
END_TEST

static void collect(const char *line, void *arg)
{
	ck_assert_int_eq(buf_printf(arg, "[%s]", line), 0);
}

START_TEST(run_lines)
{
	const char *argv[] = { "sh", "-c", "printf 'a\\n\\nb\\r\\nc'", NULL };
	auto_buf out = BUF_INIT(1000);

	ck_assert_int_eq(spawn_run_lines(argv, collect, &out, &op), 0);
	ck_assert_str_eq(buf_str(&out), "[a][][b][c]");
}
END_TEST

/* The grandchild holds the write end of the pipe: end of file on it means that it is dead. */
START_TEST(run_kills_grandchildren_at_the_deadline)
{
	char path[64];
	const char *argv[] = { "sh", "-c", "(exec cat >\"$0\" </dev/zero) & wait", path, NULL };
	auto_close int fifo_rd = -1;
	char byte[4096];
	uint64_t begin = clock_now_ns();
	struct pollfd p = { .events = POLLIN };
	ssize_t n;

	snprintf(path, sizeof(path), "/tmp/viv-spawn-%d", getpid());
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	fifo_rd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ck_assert_int_ge(fifo_rd, 0);
	op_init(&op, 300, -1);
	ck_assert_int_eq(spawn_run(argv, NULL, NULL, &op), -ETIMEDOUT);
	ck_assert_int_eq(op.err.kind, ERR_TIMEOUT);
	ck_assert_uint_ge(clock_now_ns() - begin, 290 * NS_PER_MS);
	unlink(path);
	p.fd = fifo_rd;
	do {
		ck_assert_int_eq(poll(&p, 1, 5000), 1);
		n = read(fifo_rd, byte, sizeof(byte));
		ck_assert_int_ge(n, 0);
	} while (n > 0);
}
END_TEST

START_TEST(run_ends_although_a_grandchild_keeps_the_output)
{
	const char *argv[] = { "sh", "-c", "setsid cat <\"$0\" & echo done", NULL, NULL };
	char path[64];
	auto_buf out = BUF_INIT(100);
	int fifo;

	snprintf(path, sizeof(path), "/tmp/viv-spawn-%d", getpid());
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	argv[3] = path;
	fifo = open(path, O_RDWR | O_CLOEXEC);
	ck_assert_int_eq(spawn_run(argv, NULL, &out, &op), 0);
	ck_assert_str_eq(buf_str(&out), "done\n");
	close(fifo);
	unlink(path);
}
END_TEST

static bool is_locked(const char *path)
{
	auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	return flock(fd, LOCK_EX | LOCK_NB) < 0;
}

static void await_lock(const char *path, bool locked)
{
	while (is_locked(path) != locked)
		nanosleep(&(struct timespec){ .tv_nsec = 10 * 1000 * 1000 }, NULL);
}

/* The program holds a lock for as long as it lives, with its parent's end at the latest. */
START_TEST(run_dies_with_its_parent)
{
	char path[] = "/tmp/viv-test-spawn-XXXXXX";
	int fd = mkstemp(path);
	pid_t pid;

	ck_assert_int_ge(fd, 0);
	close(fd);
	pid = fork();
	if (pid == 0) {
		op_init(&op, 0, -1);
		ignore_err(spawn_run(
			(const char *const[]){ "flock", "--no-fork", path, "sleep", "600", NULL },
			NULL, NULL, &op));
		_exit(0);
	}
	ck_assert_int_gt(pid, 0);
	await_lock(path, true);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	await_lock(path, false);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	unlink(path);
}
END_TEST

START_TEST(run_is_cancelled)
{
	const char *argv[] = { "sh", "-c", "read x <\"$0\"", "/dev/full", NULL };
	int ends[2];

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_eq(write(ends[1], "x", 1), 1);
	op.cancel_fd = ends[0];
	ck_assert_int_eq(spawn_run(argv, NULL, NULL, &op), -ECANCELED);
	ck_assert_int_eq(op.err.kind, ERR_CANCELLED);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

START_TEST(born_in_a_cgroup)
{
	char name[64];
	const char *argv[] = { "/bin/cat", NULL };
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	struct process p = PROCESS_INIT;
	struct spawn_fd in = { .to = 0 };
	auto_close int root = -1;
	auto_close int parent = -1;
	int ends[2];

	snprintf(name, sizeof(name), "viv-test-spawn-%d", getpid());
	ck_assert_msg(cgroup_open_root(name, "/tmp/viv-test-cgroup", &root, &op.err) == 0, "%s",
		      op.err.msg);
	spec.cgroup_fd = cgroup_create(root, "child", &op);
	ck_assert_int_ge(spec.cgroup_fd, 0);
	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	in.from = ends[0];
	spec.argv = argv;
	spec.fds = &in;
	spec.n_fds = 1;
	ck_assert_msg(spawn_process(&spec, &p, &op.err) == 0, "%s", op.err.msg);
	ck_assert_int_eq(cgroup_first_pid(root, "child"), p.pid);
	ck_assert_int_eq(cgroup_remove(root, "child", &op), 0);
	ck_assert_int_eq(wait_code(&p), 128 + SIGKILL);

	/* The directory is gone, and so a birth in it fails with a message that says where. */
	ck_assert_int_lt(spawn_process(&spec, &p, &op.err), 0);
	ck_assert_ptr_nonnull(strstr(op.err.msg, "clone into its cgroup"));
	close(spec.cgroup_fd);
	close(ends[0]);
	close(ends[1]);
	parent = openat(root, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	op.err = (struct err){ 0 };
	ck_assert_int_eq(cgroup_remove(parent, name, &op), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("os_spawn");
	TCase *t = tcase_create("spawn");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(t, setup, NULL);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, exit_codes);
	tcase_add_test(t, missing_program);
	tcase_add_test(t, failing_step_is_named);
	tcase_add_test(t, refuses_root_in_jail_and_bad_fds);
	tcase_add_test(t, jail);
	tcase_add_test(t, signals_are_reset);
	tcase_add_test(t, fds_may_overlap);
	tcase_add_test(t, other_fds_are_closed);
	tcase_add_test(t, environment);
	tcase_add_test(t, reap_of_the_running_and_of_strangers);
	tcase_add_test(t, run_output_and_input);
	tcase_add_test(t, run_keeps_the_tail);
	tcase_add_test(t, run_errors);
	tcase_add_test(t, run_lines);
	tcase_add_test(t, run_kills_grandchildren_at_the_deadline);
	tcase_add_test(t, run_ends_although_a_grandchild_keeps_the_output);
	tcase_add_test(t, run_dies_with_its_parent);
	tcase_add_test(t, run_is_cancelled);
	tcase_add_test(t, born_in_a_cgroup);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
