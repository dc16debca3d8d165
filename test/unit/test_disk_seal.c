/* SPDX-License-Identifier: Apache-2.0 */
/* A byte that changed in what nobody may write to is found, and its file is named. */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "disk/disk.h"
#include "patience.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SEAL "user.vivarium.seal"

enum { MIB = 1024 * 1024, BASE_MIB = 5, PATH_SIZE = 128 };

static char root[] = "/tmp/viv-seal-XXXXXX";
static char base_path[PATH_SIZE];
static int owner = -1;
static bool has_attributes;

static struct op new_op(void)
{
	struct op op;

	op_init(&op, patient_ms(60000), -1);
	return op;
}

static struct disk_spec spec(void)
{
	return (struct disk_spec){ .dirfd = owner,
				   .base_path = base_path,
				   .size_bytes = BASE_MIB * MIB };
}

static void seal(size_t live)
{
	struct disk_spec s = spec();
	struct op op = new_op();

	ck_assert_msg(disk_seal(disk_driver(NULL), &s, live, &op) == 0, "%s", op.err.msg);
}

/* A disk of a base and the layers 0, 1 and 2. */
static void setup(void)
{
	struct disk_spec s;
	struct op op = new_op();
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(root));
	owner = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	snprintf(base_path, sizeof(base_path), "%s/root.img", root);
	fd = open(base_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(ftruncate(fd, BASE_MIB * MIB), 0);
	ck_assert_int_eq(pwrite(fd, root, sizeof(root), 2 * MIB), sizeof(root));
	has_attributes = fsetxattr(fd, "user.vivarium.test", "", 0, 0) == 0;
	close(fd);
	s = spec();
	ck_assert_msg(disk_create(disk_driver(NULL), &s, &op) == 0, "%s", op.err.msg);
	for (int i = 0; i < 2; i++)
		ck_assert_msg(disk_extend(disk_driver(NULL), &s, &op) == 0, "%s", op.err.msg);
}

static void teardown(void)
{
	fd_close(&owner);
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, root), 0);
}

static void flip(const char *name, off_t at, bool keep_times)
{
	auto_free char *path = str_printf("layer/%s", name);
	auto_close int fd = openat(owner, path, O_RDWR | O_CLOEXEC);
	unsigned char byte;
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	at = at < 0 ? st.st_size + at : at;
	ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
	byte ^= 0x20;
	ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	if (keep_times)
		ck_assert_int_eq(futimens(fd, (struct timespec[]){ st.st_atim, st.st_mtim }), 0);
}

static void expect(int r, struct op *op, const char *why)
{
	ck_assert_msg((r == 0) == (why == NULL), "%d %s", r, op->err.msg);
	if (why == NULL)
		return;
	ck_assert_int_eq(op->err.kind, ERR_INVALID);
	ck_assert_msg(strstr(op->err.msg, why) != NULL, "no '%s' in: %s", why, op->err.msg);
}

static void expect_open(const char *why)
{
	cleanup(disk_done) struct disk disk = { .n = 0 };
	struct disk_spec s = spec();
	struct op op = new_op();

	expect(disk_open(disk_driver(NULL), &s, &disk, &op), &op, why);
}

static void expect_verify(const char *why)
{
	struct disk_spec s = spec();
	struct op op = new_op();

	expect(disk_verify(disk_driver(NULL), &s, &op), &op, why);
}

static const struct {
	const char *name;
	off_t at;
	const char *why;
} files[] = { { "0.qcow2", -1, "layer/0.qcow2 is damaged" },
	      { "1.qcow2", -1, "layer/1.qcow2 is damaged" },
	      { "base", 0, "layer/base is damaged" },
	      { "base", 2 * MIB + 3, "layer/base is damaged" },
	      { "base", -1, "layer/base is damaged" } };

START_TEST(test_damage_is_named)
{
	if (!has_attributes)
		return; /* there are no seals on this file system */
	seal(1);
	expect_open(NULL);
	flip(files[_i].name, files[_i].at, false);
	expect_open(files[_i].why);
	expect_verify(files[_i].why);
	flip(files[_i].name, files[_i].at, false); /* as it was, but for its time */
	expect_open(NULL);
	flip(files[_i].name, files[_i].at, true);
	expect_open(files[_i].why);
}
END_TEST

/* What only the bytes tell is found by who reads all of them. */
START_TEST(test_damage_without_a_trace)
{
	if (!has_attributes)
		return;
	seal(1);
	flip(files[_i].name, files[_i].at, true);
	expect_open(NULL);
	expect_verify(files[_i].why);
}
END_TEST

/* The top layer is written to. */
START_TEST(test_live_layers_have_none)
{
	if (!has_attributes)
		return;
	seal(2);
	flip("2.qcow2", -1, false);
	flip("1.qcow2", -1, false);
	expect_open(NULL);
	expect_verify(NULL);
	seal(1);
	expect_open(NULL);
	flip("1.qcow2", -1, false);
	expect_open("1.qcow2 is damaged");
}
END_TEST

/* A disk that shares the files has their seals, too. */
START_TEST(test_shared)
{
	auto_close int other = -1;
	struct op op = new_op();
	struct disk_spec s = spec();
	cleanup(disk_done) struct disk disk = { .n = 0 };

	if (!has_attributes)
		return;
	seal(0);
	ck_assert_int_eq(mkdirat(owner, "other", 0700), 0);
	other = openat(owner, "other", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	flip("2.qcow2", -1, false);
	s.dirfd = other;
	ck_assert_int_eq(disk_clone(disk_driver(NULL), owner, &s, &op), 0);
	expect(disk_open(disk_driver(NULL), &s, &disk, &op), &op, "other/layer/2.qcow2 is damaged");
}
END_TEST

START_TEST(test_damaged_seal)
{
	static const char *const seals[] = { "", "too short",
					     ("as long as one, but not what was written "
					      "there by us") };
	auto_close int fd = openat(owner, "layer/1.qcow2", O_RDONLY | O_CLOEXEC);

	if (!has_attributes)
		return;
	ck_assert_int_eq(fsetxattr(fd, SEAL, seals[_i], MIN(strlen(seals[_i]), (size_t)48), 0), 0);
	expect_open("1.qcow2: its attribute " SEAL " is damaged");
	ck_assert_int_eq(fremovexattr(fd, SEAL), 0);
	expect_open(NULL);
}
END_TEST

START_TEST(test_cancelled)
{
	auto_close int cancel_fd = eventfd(1, EFD_CLOEXEC);
	struct disk_spec s = spec();
	struct op op;

	if (!has_attributes)
		return;
	op_init(&op, 0, cancel_fd);
	ck_assert_int_lt(disk_seal(disk_driver(NULL), &s, 0, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_CANCELLED);
	expect_open(NULL);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("disk_seal");
	TCase *t = tcase_create("seals");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, test_damage_is_named, 0, ARRAY_SIZE(files));
	tcase_add_loop_test(t, test_damage_without_a_trace, 0, ARRAY_SIZE(files));
	tcase_add_test(t, test_live_layers_have_none);
	tcase_add_test(t, test_shared);
	tcase_add_loop_test(t, test_damaged_seal, 0, 3);
	tcase_add_test(t, test_cancelled);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
