/* SPDX-License-Identifier: Apache-2.0 */
/* handles.json is a hint: right when it is there, and never in the way. */
#include "sandbox/handles.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/viv-handles-XXXXXX";
static int dirfd_ = -1;

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	dirfd_ = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dirfd_, 0);
}

static void teardown(void)
{
	fd_close(&dirfd_);
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
}

static void write_text(const char *text, size_t n)
{
	ck_assert_int_eq(file_write_atomic_at(dirfd_, "handles.json", text, n, 0600), 0);
}

START_TEST(test_round_trip)
{
	struct handles h = {
		.pid = 4711,
		.start_time = 123456789012,
		.boot_id = "3f1f7a7e-6a0b-4c55-9f3c-2d6f0d8e9f10",
		.netns = "viv-ab12-7",
		.tap = "tap0",
		.cgroup = "vivarium-ab12/iabc",
		.base_loop = "/dev/loop3",
		.cow_loop = "/dev/loop4",
		.dm_name = "viv-ab12-iabc",
		.dm_device = "/dev/dm-2",
	};
	struct handles back = HANDLES_INIT;
	struct stat st;

	ck_assert_int_eq(handles_write(dirfd_, &h), 0);
	ck_assert_int_eq(handles_read(dirfd_, &back), 0);
	ck_assert_int_eq(back.pid, h.pid);
	ck_assert_uint_eq(back.start_time, h.start_time);
	ck_assert_str_eq(back.boot_id, h.boot_id);
	ck_assert_str_eq(back.netns, h.netns);
	ck_assert_str_eq(back.tap, h.tap);
	ck_assert_str_eq(back.cgroup, h.cgroup);
	ck_assert_str_eq(back.base_loop, h.base_loop);
	ck_assert_str_eq(back.cow_loop, h.cow_loop);
	ck_assert_str_eq(back.dm_name, h.dm_name);
	ck_assert_str_eq(back.dm_device, h.dm_device);
	ck_assert_int_eq(fstatat(dirfd_, "handles.json", &st, 0), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_lt(st.st_size, 1024);
}
END_TEST

START_TEST(test_all_optional)
{
	struct handles h = HANDLES_INIT;
	struct handles back = { .pid = 1 };

	ck_assert_int_eq(handles_write(dirfd_, &h), 0);
	ck_assert_int_eq(handles_read(dirfd_, &back), 0);
	ck_assert_int_eq(back.pid, 0);
	ck_assert_str_eq(back.tap, "");
}
END_TEST

START_TEST(test_complete)
{
	struct handles h = { .pid = getpid() };
	struct handles again = { .pid = getpid() };

	handles_complete(&h);
	ck_assert_uint_gt(h.start_time, 0);
	ck_assert_uint_eq(strlen(h.boot_id), 36);
	ck_assert_int_eq(prctl(PR_SET_NAME, "a) R 1 (b "), 0); /* nobody's name confuses it */
	handles_complete(&again);
	ck_assert_uint_eq(again.start_time, h.start_time);
	ck_assert_str_eq(again.boot_id, h.boot_id);
	again.pid = 0x7fffffff;
	handles_complete(&again);
	ck_assert_uint_eq(again.start_time, 0);
}
END_TEST

START_TEST(test_useless_is_not_there)
{
	static const char *const texts[] = { "", "[]", "7", "{\"pid\": 1", "{} x", "\xff\xfe" };
	static char large[HANDLES_MAX_BYTES + 1];
	struct handles h = { .pid = 77 };

	ck_assert_int_eq(handles_read(dirfd_, &h), -ENOENT);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		write_text(texts[i], strlen(texts[i]));
		ck_assert_int_eq(handles_read(dirfd_, &h), -ENOENT);
	}
	memset(large, ' ', sizeof(large));
	memcpy(large, "{}", 2);
	write_text(large, sizeof(large));
	ck_assert_int_eq(handles_read(dirfd_, &h), -ENOENT);
	write_text(large, sizeof(large) - 1);
	ck_assert_int_eq(h.pid, 77); /* nothing was written until now */
	ck_assert_int_eq(handles_read(dirfd_, &h), 0);
}
END_TEST

START_TEST(test_odd_values_are_left_out)
{
	static const char text[] =
		"{\"pid\": \"12\", \"start_time\": -4, \"tap\": 3, \"netns\": \"ok\", \"new\": [1],"
		" \"base_loop\": \"0123456789012345678901234567890123456789\"}";
	static const char large_pid[] = "{\"pid\": 4294967297, \"start_time\": 1.5}";
	struct handles h = HANDLES_INIT;

	ck_assert_int_eq(handles_parse(text, strlen(text), &h), 0);
	ck_assert_int_eq(h.pid, 0);
	ck_assert_uint_eq(h.start_time, 0);
	ck_assert_str_eq(h.tap, "");
	ck_assert_str_eq(h.netns, "ok");
	ck_assert_str_eq(h.base_loop, "");
	ck_assert_int_eq(handles_parse(large_pid, strlen(large_pid), &h), 0);
	ck_assert_int_eq(h.pid, 0);
	ck_assert_uint_eq(h.start_time, 0);
	ck_assert_int_eq(handles_parse("", 0, &h), -EBADMSG);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("handles");
	TCase *tc = tcase_create("handles");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_round_trip);
	tcase_add_test(tc, test_all_optional);
	tcase_add_test(tc, test_complete);
	tcase_add_test(tc, test_useless_is_not_there);
	tcase_add_test(tc, test_odd_values_are_left_out);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
