/* SPDX-License-Identifier: Apache-2.0 */
/* What there is room for: the sums that an admission is decided by. */
#include "sandbox/frozen.h"
#include "sandbox/room.h"

#include <check.h>
#include <stdlib.h>

START_TEST(test_counted)
{
	/* All of it without overcommitment; its share, rounded up; what it has, if that is more. */
	ck_assert_uint_eq(room_counted(512, 0, 1), 512 + 32);
	ck_assert_uint_eq(room_counted(512, 0, 4), 128 + 32);
	ck_assert_uint_eq(room_counted(129, 40, 4), 33 + 32);
	ck_assert_uint_eq(room_counted(512, 400, 4), 400);
}
END_TEST

START_TEST(test_most)
{
	struct room_memory memory = { .own = 1000, .available = 500, .reserve = 200 };

	ck_assert_uint_eq(room_most(&memory), 1300);
	memory.reserve = 1500;
	ck_assert_uint_eq(room_most(&memory), 0);
	memory.reserve = 2000;
	ck_assert_uint_eq(room_most(&memory), 0);
	memory.available = UINT64_MAX; /* a host that does not tell */
	ck_assert_uint_eq(room_most(&memory), UINT64_MAX);
}
END_TEST

START_TEST(test_reserve)
{
	ck_assert_uint_eq(room_reserve(0, 4000, 512), 200);
	ck_assert_uint_eq(room_reserve(0, 400000, 512), 512);
	ck_assert_uint_eq(room_reserve(1, 400000, 512), 1);
	ck_assert_uint_eq(room_reserve(9000, 4000, 512), 9000);
	ck_assert_uint_eq(room_reserve(0, 0, 512), 0);
}
END_TEST

START_TEST(test_limits)
{
	struct room_limit limit = { .have = 1000, .shared = 200, .each = 12 };
	struct room_limit files = room_files();
	struct room_limit threads = room_threads();

	ck_assert_uint_eq(room_limit_sandboxes(&limit), 66);
	ck_assert_uint_eq(room_limit_need(&limit, 66), 992);
	limit.have = 200;
	ck_assert_uint_eq(room_limit_sandboxes(&limit), 0);
	ck_assert_uint_gt(files.have, 0);
	ck_assert_uint_gt(threads.have, 0);
}
END_TEST

START_TEST(test_room_to_go_on)
{
	struct room_disk disk = { .total = 100000, .free = 63, .reserve = 1024 };

	/* Not for the next few bytes only; but a small disk never has much. */
	ck_assert(!frozen_may_go_on(&disk));
	disk.free = 64;
	ck_assert(frozen_may_go_on(&disk));
	disk = (struct room_disk){ .total = 100, .free = 5, .reserve = 5 };
	ck_assert(frozen_may_go_on(&disk));
	disk = (struct room_disk){ .total = 10, .free = 0, .reserve = 0 };
	ck_assert(!frozen_may_go_on(&disk));
}
END_TEST

/* Fifty warm sandboxes of 128 MiB are no matter for a host of 24 GiB. */
START_TEST(test_a_host_like_many)
{
	struct room_memory memory = { .own = 50 * 35, .available = 21000, .reserve = 512 };

	ck_assert_uint_lt(50 * room_counted(128, 35, 4), room_most(&memory) / 4);
	ck_assert_uint_gt(room_most(&memory) / room_counted(512, 35, 4), 100);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("room");
	TCase *tc = tcase_create("sums");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_counted);
	tcase_add_test(tc, test_most);
	tcase_add_test(tc, test_reserve);
	tcase_add_test(tc, test_limits);
	tcase_add_test(tc, test_room_to_go_on);
	tcase_add_test(tc, test_a_host_like_many);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
