/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tree.h"

#include "base/file.h"
#include "base/str.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 65536 };

static char dir[] = "/tmp/viv-tree-XXXXXX";

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void teardown(void)
{
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
}

static void write_file(const char *name, bool hole)
{
	static const char data[BLOCK] = { 1 };
	auto_free char *path = str_printf("%s/%s", dir, name);

	ck_assert_int_eq(file_write_atomic_at(AT_FDCWD, path, data, sizeof(data), 0600), 0);
	if (hole)
		ck_assert_int_eq(truncate(path, (off_t)1 << 30), 0);
}

START_TEST(test_counts_what_is_allocated)
{
	auto_free char *below = str_printf("%s/below", dir);
	auto_free char *link = str_printf("%s/link", dir);
	uint64_t empty = 0;
	uint64_t bytes = 0;

	ck_assert_int_eq(mkdir(below, 0700), 0);
	ck_assert_int_eq(tree_allocated(dir, &empty), 0);
	write_file("one", true);
	write_file("below/two", false);
	ck_assert_int_eq(symlink("/usr", link), 0);
	ck_assert_int_eq(tree_allocated(dir, &bytes), 0);
	ck_assert_uint_ge(bytes, empty + 2 * BLOCK);
	ck_assert_uint_lt(bytes, empty + 4 * BLOCK);
}
END_TEST

START_TEST(test_names_of_one_file)
{
	auto_free char *elsewhere = str_printf("%s-elsewhere", dir);
	auto_free char *one = str_printf("%s/one", dir);
	auto_free char *two = str_printf("%s/two", dir);
	uint64_t empty = 0;
	uint64_t bytes = 0;

	ck_assert_int_eq(tree_own(dir, &empty), 0);
	write_file("one", false);
	ck_assert_int_eq(link(one, two), 0);
	ck_assert_int_eq(tree_allocated(dir, &bytes), 0);
	ck_assert_uint_ge(bytes, empty + BLOCK);
	ck_assert_uint_lt(bytes, empty + 2 * BLOCK);
	ck_assert_int_eq(tree_own(dir, &bytes), 0);
	ck_assert_uint_ge(bytes, empty + BLOCK);
	ck_assert_int_eq(link(one, elsewhere), 0); /* which deleting the tree does not free */
	ck_assert_int_eq(tree_own(dir, &bytes), 0);
	ck_assert_uint_eq(bytes, empty);
	ck_assert_int_eq(tree_allocated(dir, &bytes), 0);
	ck_assert_uint_ge(bytes, empty + BLOCK);
	ck_assert_int_eq(unlink(elsewhere), 0);
}
END_TEST

START_TEST(test_files_and_links)
{
	auto_free char *file = str_printf("%s/file", dir);
	auto_free char *link = str_printf("%s-link", dir);
	uint64_t bytes = 0;

	write_file("file", false);
	ck_assert_int_eq(tree_allocated(file, &bytes), 0);
	ck_assert_uint_ge(bytes, BLOCK);
	ck_assert_int_eq(symlink(dir, link), 0);
	bytes = 0;
	ck_assert_int_eq(tree_allocated(link, &bytes), 0); /* the path itself may be one */
	ck_assert_int_eq(unlink(link), 0);
	ck_assert_uint_ge(bytes, BLOCK);
}
END_TEST

START_TEST(test_absent)
{
	uint64_t bytes = 7;

	ck_assert_int_eq(tree_allocated("/nowhere/at/all", &bytes), -ENOENT);
	ck_assert_uint_eq(bytes, 7);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tree");
	TCase *tc = tcase_create("tree");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_counts_what_is_allocated);
	tcase_add_test(tc, test_names_of_one_file);
	tcase_add_test(tc, test_files_and_links);
	tcase_add_test(tc, test_absent);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
