/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/fd.h"
#include "os/proc.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEMORY = 32 << 20 };

static int open_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

START_TEST(test_own_usage)
{
	struct proc_meter m = PROC_METER_INIT;
	auto_close int pidfd = open_pidfd(getpid());
	struct proc_usage before;
	struct proc_usage after;
	void *memory;

	ck_assert_int_eq(proc_meter_open(getpid(), pidfd, &m), 0);
	ck_assert_int_eq(proc_meter_read(&m, &before), 0);
	memory = mmap(NULL, MEMORY, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	ck_assert_ptr_ne(memory, MAP_FAILED);
	memset(memory, 1, MEMORY);
	do
		ck_assert_int_eq(proc_meter_read(&m, &after), 0);
	while (after.cpu_ns < before.cpu_ns + NS_PER_MS);
	ck_assert_uint_ge(after.anon_bytes, before.anon_bytes + MEMORY / 10 * 9);
	munmap(memory, MEMORY);
	proc_meter_done(&m);
	proc_meter_done(&m);
	ck_assert_int_eq(m.statm_fd, -1);
}
END_TEST

/* It is waited for in between: its number could be another's by then. */
START_TEST(test_the_end_is_told)
{
	struct proc_meter m = PROC_METER_INIT;
	auto_close int pidfd = -1;
	struct proc_usage usage;
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	pidfd = open_pidfd(pid);
	ck_assert_int_eq(proc_meter_open(pid, pidfd, &m), 0);
	ck_assert_int_eq(proc_meter_read(&m, &usage), 0);
	kill(pid, SIGKILL);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_eq(proc_meter_read(&m, &usage), -ESRCH);
	proc_meter_done(&m);
	ck_assert_int_eq(proc_meter_open(pid, pidfd, &m), -ESRCH);
	/* A pid of somebody else under the pidfd of one that ended. */
	ck_assert_int_eq(proc_meter_open(getpid(), pidfd, &m), -ESRCH);
	ck_assert_int_eq(m.statm_fd, -1);
}
END_TEST

START_TEST(test_self)
{
	struct proc_self before;
	struct proc_self after;
	auto_close int fd = -1;

	proc_self_read(&before);
	fd = dup3(STDERR_FILENO, 200, O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	proc_self_read(&after);
	ck_assert_uint_eq(after.open_fds, before.open_fds + 1);
	ck_assert_uint_gt(after.resident_bytes, 1 << 19);
	ck_assert_uint_ge(after.cpu_ns, before.cpu_ns);
	ck_assert_uint_gt(after.max_fds, after.open_fds);
}
END_TEST

START_TEST(test_memory)
{
	struct proc_memory m = { 0 };

	ck_assert_int_eq(proc_memory_read(&m), 0);
	ck_assert_uint_gt(m.available_mib, 0);
	ck_assert_uint_ge(m.total_mib, m.available_mib);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("os_proc");
	TCase *c = tcase_create("os_proc");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(c, test_own_usage);
	tcase_add_test(c, test_the_end_is_told);
	tcase_add_test(c, test_self);
	tcase_add_test(c, test_memory);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
