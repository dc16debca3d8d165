/* SPDX-License-Identifier: Apache-2.0 */
#include "os/cgroup.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "os/spawn.h"
#include "patience.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static struct op op;
static char root_name[64];
static int root = -1;

static void setup(void)
{
	op_init(&op, patient_ms(10000), -1);
	snprintf(root_name, sizeof(root_name), "viv-test-cgroup-%d", getpid());
	ck_assert_msg(cgroup_open_root(root_name, "/tmp/viv-test-cgroup", &root, &op.err) == 0,
		      "%s", op.err.msg);
}

static void teardown(void)
{
	auto_close int parent = openat(root, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	op.err = (struct err){ 0 };
	ck_assert_msg(cgroup_remove(parent, root_name, &op) == 0, "%s", op.err.msg);
	fd_close(&root);
}

/* A process tree in a cgroup: a shell that waits for a child, both for ever. */
static struct process start_tree(int cgroup_fd)
{
	const char *argv[] = { "/bin/sh", "-c", "tail -f /dev/null & wait", NULL };
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	struct process p = PROCESS_INIT;

	spec.argv = argv;
	spec.cgroup_fd = cgroup_fd;
	ck_assert_msg(spawn_process(&spec, &p, &op.err) == 0, "%s", op.err.msg);
	return p;
}

static void reap_killed(struct process *p)
{
	int code = -1;

	ck_assert_int_eq(op_wait_fd(&op, p->pidfd, POLLIN, -1), 1);
	ck_assert_int_eq(spawn_reap(p, &code), 1);
	ck_assert_int_eq(code, 128 + SIGKILL);
}

START_TEST(root_opens_twice)
{
	auto_close int again = -1;
	struct stat a;
	struct stat b;

	ck_assert_int_eq(cgroup_open_root(root_name, "/tmp/viv-test-cgroup", &again, &op.err), 0);
	ck_assert_int_eq(fstat(root, &a), 0);
	ck_assert_int_eq(fstat(again, &b), 0);
	ck_assert_uint_eq(a.st_ino, b.st_ino);
}
END_TEST

START_TEST(absent)
{
	ck_assert_int_eq(cgroup_remove(root, "none", &op), 0);
	ck_assert_int_eq(cgroup_first_pid(root, "none"), -ENOENT);
}
END_TEST

START_TEST(empty)
{
	auto_close int fd = cgroup_create(root, "a", &op);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(cgroup_first_pid(root, "a"), 0);
	ck_assert_int_eq(cgroup_remove(root, "a", &op), 0);
	ck_assert_int_eq(cgroup_first_pid(root, "a"), -ENOENT);
}
END_TEST

START_TEST(remove_kills_the_tree)
{
	auto_close int fd = cgroup_create(root, "a", &op);
	struct process p = start_tree(fd);

	ck_assert_int_gt(cgroup_first_pid(root, "a"), 0);
	ck_assert_msg(cgroup_remove(root, "a", &op) == 0, "%s", op.err.msg);
	reap_killed(&p);
	ck_assert_int_eq(faccessat(root, "a", F_OK, 0), -1);
}
END_TEST

START_TEST(remove_goes_down)
{
	auto_close int fd = cgroup_create(root, "a", &op);
	auto_close int inner = cgroup_create(fd, "b", &op);
	auto_close int innermost = cgroup_create(inner, "c", &op);
	struct process p = start_tree(innermost);
	struct process q = start_tree(fd);

	ck_assert_msg(cgroup_remove(root, "a", &op) == 0, "%s", op.err.msg);
	reap_killed(&p);
	reap_killed(&q);
	ck_assert_int_eq(faccessat(root, "a", F_OK, 0), -1);
}
END_TEST

/* What runs in a leftover is killed, and what is started in the fresh directory lives. */
START_TEST(create_replaces_a_leftover)
{
	auto_close int first = cgroup_create(root, "a", &op);
	struct process p = start_tree(first);
	auto_close int second = cgroup_create(root, "a", &op);
	struct process q;

	ck_assert_int_ge(second, 0);
	reap_killed(&p);
	q = start_tree(second);
	ck_assert_int_gt(cgroup_first_pid(root, "a"), 0);
	ck_assert_int_eq(spawn_reap(&q, NULL), 0);
	ck_assert_int_eq(cgroup_remove(root, "a", &op), 0);
	reap_killed(&q);
}
END_TEST

START_TEST(root_goes_when_it_is_empty)
{
	auto_close int fd = cgroup_create(root, "a", &op);
	auto_close int parent = openat(root, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	ck_assert_msg(cgroup_close_root(root, &op) == 0, "%s", op.err.msg);
	ck_assert_int_eq(faccessat(parent, root_name, F_OK, 0), 0);
	ck_assert_int_eq(cgroup_remove(root, "a", &op), 0);
	ck_assert_msg(cgroup_close_root(root, &op) == 0, "%s", op.err.msg);
	ck_assert_int_eq(faccessat(parent, root_name, F_OK, 0), -1);
	fd_close(&root);
	setup(); /* for teardown */
}
END_TEST

/* A mount namespace of our own in which no cgroup v2 hierarchy is mounted. */
static void enter_without_cgroup2(void)
{
	char dir[PATH_MAX];

	ck_assert_int_eq(unshare(CLONE_NEWNS), 0);
	ck_assert_int_eq(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
	while (cgroup_find_mount(dir, sizeof(dir)) == 0)
		ck_assert_int_eq(umount2(dir, MNT_DETACH), 0);
}

START_TEST(own_mount_goes_with_the_last_cgroup)
{
	auto_free char *dir = str_printf("/tmp/%s", root_name);
	auto_free char *name = str_printf("%s-own", root_name);
	char found[PATH_MAX];
	int own = -1;

	enter_without_cgroup2();
	ck_assert_int_eq(cgroup_unmount(name, dir), 0); /* there is none */
	ck_assert_msg(cgroup_open_root(name, dir, &own, &op.err) == 0, "%s", op.err.msg);
	ck_assert_int_eq(cgroup_find_mount(found, sizeof(found)), 0);
	ck_assert_str_eq(found, dir);

	/* The cgroup is there, then it is gone but something is open: the mount stays. */
	ck_assert_int_eq(cgroup_unmount(name, dir), 0);
	ck_assert_int_eq(cgroup_find_mount(found, sizeof(found)), 0);
	ck_assert_int_eq(cgroup_close_root(own, &op), 0);
	ck_assert_int_eq(cgroup_unmount(name, dir), 0);
	ck_assert_int_eq(cgroup_find_mount(found, sizeof(found)), 0);

	fd_close(&own);
	ck_assert_int_eq(cgroup_unmount(name, dir), 0);
	ck_assert_int_eq(cgroup_find_mount(found, sizeof(found)), -ENOENT);
	ck_assert_int_eq(access(dir, F_OK), -1);
}
END_TEST

static int add_name(const char *name, void *arg)
{
	return buf_printf(arg, "<%s>", name);
}

static int refuse(const char *name, void *arg)
{
	(void)name;
	++*(int *)arg;
	return -EXDEV;
}

START_TEST(list)
{
	auto_buf names = BUF_INIT(100);
	auto_close int a = cgroup_create(root, "a", &op);
	auto_close int b = cgroup_create(root, "b", &op);
	int calls = 0;

	ck_assert_int_ge(MIN(a, b), 0);
	ck_assert_int_eq(cgroup_list(root, add_name, &names), 0);
	ck_assert_int_eq(names.len, 6);
	ck_assert_ptr_nonnull(strstr(buf_str(&names), "<a>"));
	ck_assert_ptr_nonnull(strstr(buf_str(&names), "<b>"));
	ck_assert_int_eq(cgroup_list(root, refuse, &calls), -EXDEV);
	ck_assert_int_eq(calls, 1);
}
END_TEST

START_TEST(many_times_under_one_name)
{
	for (int i = 0; i < 20; i++) {
		auto_close int fd = cgroup_create(root, "a", &op);
		struct process p = start_tree(fd);

		ck_assert_msg(cgroup_remove(root, "a", &op) == 0, "%s", op.err.msg);
		reap_killed(&p);
	}
}
END_TEST

/* In @fd, a directory that stands for a cgroup. */
static int kills_of(int fd, const char *events, uint64_t *out)
{
	ck_assert_int_eq(file_write_at(fd, "memory.events", events), 0);
	return cgroup_oom_kills(fd, out);
}

START_TEST(oom_kills)
{
	char path[] = "/tmp/viv-test-oom-XXXXXX";
	auto_close int fd = -1;
	uint64_t n = 7;

	ck_assert_ptr_nonnull(mkdtemp(path));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(cgroup_oom_kills(fd, &n), -ENOENT); /* no controller */
	ck_assert_int_eq(cgroup_oom_kills(-1, &n), -EBADF);
	close(openat(fd, "memory.events", O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
	ck_assert_int_eq(cgroup_oom_kills(fd, &n), -ENOENT); /* an older kernel */
	ck_assert_uint_eq(n, 7);
	ck_assert_int_eq(kills_of(fd, "low 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 5\n", &n),
			 0);
	ck_assert_uint_eq(n, 2);
	ck_assert_int_eq(kills_of(fd, "oom_kill 0\nlow 0\nmax 12\noom 3\noom_group_kill 5\n", &n),
			 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_lt(kills_of(fd, "oom_kill many\nlow 0\nmax 12\noom 3\noom_group_kill\n", &n),
			 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(unlinkat(fd, "memory.events", 0), 0);
	ck_assert_int_eq(rmdir(path), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("os_cgroup");
	TCase *t = tcase_create("cgroup");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, root_opens_twice);
	tcase_add_test(t, absent);
	tcase_add_test(t, empty);
	tcase_add_test(t, remove_kills_the_tree);
	tcase_add_test(t, remove_goes_down);
	tcase_add_test(t, create_replaces_a_leftover);
	tcase_add_test(t, root_goes_when_it_is_empty);
	tcase_add_test(t, own_mount_goes_with_the_last_cgroup);
	tcase_add_test(t, list);
	tcase_add_test(t, many_times_under_one_name);
	tcase_add_test(t, oom_kills);
	suite_add_tcase(s, t);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
