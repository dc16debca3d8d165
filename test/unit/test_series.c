/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "sandbox/series.h"

#include <check.h>
#include <stdlib.h>

/* A multiple of all periods. */
enum { START = 1800000000, SEEN_MAX = SERIES_RECORDS };

static struct series *series;
static struct series_sample seen[SEEN_MAX];
static size_t n_seen;

static void setup(void)
{
	series = xcalloc(1, sizeof(*series));
	n_seen = 0;
}

static void teardown(void)
{
	free(series);
}

static void push(uint64_t unix_s, unsigned cpu)
{
	struct series_sample s = { .unix_s = unix_s, .cpu = cpu, .host_mem = unix_s % 1000 };

	series_push(series, &s);
}

static void see(const struct series_sample *s, void *arg)
{
	ck_assert_ptr_eq(arg, &n_seen);
	ck_assert_uint_lt(n_seen, SEEN_MAX);
	seen[n_seen++] = *s;
}

static size_t look(enum series_level level, uint64_t from_s, uint64_t to_s)
{
	n_seen = 0;
	series_each(series, level, from_s, to_s, see, &n_seen);
	return n_seen;
}

START_TEST(test_it_is_small)
{
	ck_assert_uint_le(sizeof(struct series), SERIES_BYTES_MAX);
	ck_assert_uint_eq(sizeof(struct series_record), SERIES_RECORD_BYTES);
}
END_TEST

START_TEST(test_empty)
{
	struct series_sample s;

	ck_assert(!series_last(series, &s));
	for (enum series_level level = 0; level < SERIES_LEVEL_N; level++)
		ck_assert_uint_eq(look(level, 0, UINT64_MAX), 0);
	ck_assert_int_eq(series_level_since(series, 0), SERIES_FINE);
}
END_TEST

START_TEST(test_all_fields_come_back)
{
	struct series_sample in = { .unix_s = START,
				    .cpu = 1234,
				    .host_mem = 524287,
				    .host_disk = 1,
				    .guest = SERIES_GUEST_NOW,
				    .mem_used = 400000,
				    .mem_cache = 0,
				    .disk_used = 5 };
	struct series_sample out;

	series_push(series, &in);
	ck_assert(series_last(series, &out));
	ck_assert_uint_eq(out.unix_s, in.unix_s);
	ck_assert_uint_eq(out.cpu, in.cpu);
	ck_assert_uint_eq(out.host_mem, in.host_mem);
	ck_assert_uint_eq(out.host_disk, in.host_disk);
	ck_assert_int_eq(out.guest, in.guest);
	ck_assert_uint_eq(out.mem_used, in.mem_used);
	ck_assert_uint_eq(out.mem_cache, in.mem_cache);
	ck_assert_uint_eq(out.disk_used, in.disk_used);
}
END_TEST

/* Sizes of all magnitudes: never more than was said, and short by 1 in 500 000 at most. */
START_TEST(test_sizes_are_close)
{
	uint64_t before = 0;

	for (unsigned bit = 0; bit < 50; bit++) {
		for (int around = -1; around <= 1; around++) {
			uint64_t size = (UINT64_C(1) << bit) + (uint64_t)(int64_t)around;
			struct series_sample s = { .unix_s = START, .disk_used = size };

			series_push(series, &s);
			ck_assert(series_last(series, &s));
			ck_assert_uint_le(s.disk_used, size);
			ck_assert_uint_le(size - s.disk_used, size / 500000);
			if (around == 1)
				ck_assert_uint_ge(s.disk_used, before);
			before = s.disk_used;
		}
	}
}
END_TEST

START_TEST(test_sizes_saturate)
{
	struct series_sample s = { .unix_s = START, .disk_used = UINT64_MAX, .cpu = UINT32_MAX };

	series_push(series, &s);
	ck_assert(series_last(series, &s));
	ck_assert_uint_gt(s.disk_used, UINT64_C(1) << 49);
	ck_assert_uint_eq(s.cpu, SERIES_CPU_MAX);
}
END_TEST

START_TEST(test_each_level_keeps_its_time)
{
	static const struct {
		enum series_level level;
		size_t n;
	} kept[] = { { SERIES_FINE, SERIES_FINE_N },
		     { SERIES_MID, SERIES_MID_N },
		     { SERIES_COARSE, SERIES_COARSE_N } };
	const uint64_t day = (uint64_t)2 * 86400;

	for (uint64_t t = 0; t < day; t++)
		push(START + t, (unsigned)(t % 100));
	for (size_t i = 0; i < ARRAY_SIZE(kept); i++) {
		uint64_t period = series_period_s(kept[i].level);
		uint64_t last = (START + day - 1) / period * period;

		ck_assert_uint_eq(look(kept[i].level, 0, UINT64_MAX), kept[i].n);
		ck_assert_uint_eq(seen[kept[i].n - 1].unix_s, last);
		for (size_t k = 1; k < n_seen; k++)
			ck_assert_uint_eq(seen[k].unix_s, seen[k - 1].unix_s + period);
	}
}
END_TEST

START_TEST(test_coarse_is_the_mean_and_the_last)
{
	for (unsigned t = 0; t < 30; t++)
		push(START + t, t * 100);
	push(START + 30, 7000);
	ck_assert_uint_eq(look(SERIES_MID, 0, UINT64_MAX), 2);
	ck_assert_uint_eq(seen[0].unix_s, START);
	ck_assert_uint_eq(seen[0].cpu, 1450);
	ck_assert_uint_eq(seen[0].host_mem, 29);
	ck_assert_uint_eq(seen[1].cpu, 7000); /* of a period that is not over */
	ck_assert_uint_eq(look(SERIES_COARSE, 0, UINT64_MAX), 1);
}
END_TEST

START_TEST(test_gaps_are_no_samples)
{
	push(START, 1);
	push(START + 5, 2);
	ck_assert_uint_eq(look(SERIES_FINE, 0, UINT64_MAX), 2);
	ck_assert_uint_eq(seen[1].unix_s, START + 5);
	push(START + SERIES_FINE_N + 4, 3); /* in the place of START + 4 */
	ck_assert_uint_eq(look(SERIES_FINE, 0, UINT64_MAX), 2);
	ck_assert_uint_eq(seen[0].unix_s, START + 5);
	push(START + 1000000, 4); /* all older ones are gone */
	ck_assert_uint_eq(look(SERIES_FINE, 0, UINT64_MAX), 1);
	ck_assert_uint_eq(look(SERIES_COARSE, 0, UINT64_MAX), 1);
}
END_TEST

START_TEST(test_a_second_counts_once)
{
	push(START, 100);
	push(START, 300);
	ck_assert_uint_eq(look(SERIES_FINE, 0, UINT64_MAX), 1);
	ck_assert_uint_eq(seen[0].cpu, 200);
}
END_TEST

START_TEST(test_the_clock_goes_back)
{
	for (unsigned t = 0; t < 100; t++)
		push(START + t, 1);
	push(START + 40, 2);
	ck_assert_uint_eq(look(SERIES_FINE, 0, UINT64_MAX), 41);
	ck_assert_uint_eq(seen[40].unix_s, START + 40);
	push(START - 1000000, 3);
	ck_assert_uint_eq(look(SERIES_FINE, 0, UINT64_MAX), 1);
	ck_assert_uint_eq(look(SERIES_COARSE, 0, UINT64_MAX), 1);
	ck_assert_uint_eq(series->first_s, START - 1000000);
}
END_TEST

START_TEST(test_ranges_are_closed)
{
	for (unsigned t = 0; t < 10; t++)
		push(START + t, t);
	ck_assert_uint_eq(look(SERIES_FINE, START + 3, START + 6), 4);
	ck_assert_uint_eq(seen[0].unix_s, START + 3);
	ck_assert_uint_eq(seen[3].unix_s, START + 6);
	ck_assert_uint_eq(look(SERIES_FINE, START + 100, UINT64_MAX), 0);
}
END_TEST

START_TEST(test_levels_reach_back)
{
	for (uint64_t t = 0; t < 86400; t += 10)
		push(START + t, 1);
	ck_assert_int_eq(series_level_since(series, START + 86390), SERIES_FINE);
	ck_assert_int_eq(series_level_since(series, START + 86400 - 590), SERIES_FINE);
	ck_assert_int_eq(series_level_since(series, START + 86400 - 700), SERIES_MID);
	ck_assert_int_eq(series_level_since(series, START + 86400 - 7000), SERIES_MID);
	ck_assert_int_eq(series_level_since(series, START + 86400 - 8000), SERIES_COARSE);
	ck_assert_int_eq(series_level_since(series, 0), SERIES_COARSE);
}
END_TEST

START_TEST(test_a_young_one_is_told_finely)
{
	push(START, 1);
	push(START + 60, 1);
	ck_assert_int_eq(series_level_since(series, 0), SERIES_FINE);
}
END_TEST

START_TEST(test_validity)
{
	push(START, 1);
	ck_assert(series_is_valid(series));
	memset(series, 0xff, sizeof(*series));
	ck_assert(!series_is_valid(series));
}
END_TEST

/* Any bytes that are said to be valid can be used. */
START_TEST(test_any_records_can_be_read)
{
	srand(1);
	for (unsigned round = 0; round < 50; round++) {
		for (size_t i = 0; i < sizeof(series->records); i++)
			((uint8_t *)series->records)[i] = (uint8_t)rand();
		for (enum series_level level = 0; level < SERIES_LEVEL_N; level++) {
			series->rings[level] =
				(struct series_ring){ .newest = (uint64_t)rand(), .n = 1 };
			ck_assert(series_is_valid(series));
			look(level, 0, UINT64_MAX);
			for (size_t i = 0; i < n_seen; i++)
				ck_assert_uint_le(seen[i].cpu, SERIES_CPU_MAX);
		}
		push((uint64_t)rand(), 5);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("series");
	TCase *c = tcase_create("series");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, test_it_is_small);
	tcase_add_test(c, test_empty);
	tcase_add_test(c, test_all_fields_come_back);
	tcase_add_test(c, test_sizes_are_close);
	tcase_add_test(c, test_sizes_saturate);
	tcase_add_test(c, test_each_level_keeps_its_time);
	tcase_add_test(c, test_coarse_is_the_mean_and_the_last);
	tcase_add_test(c, test_gaps_are_no_samples);
	tcase_add_test(c, test_a_second_counts_once);
	tcase_add_test(c, test_the_clock_goes_back);
	tcase_add_test(c, test_ranges_are_closed);
	tcase_add_test(c, test_levels_reach_back);
	tcase_add_test(c, test_a_young_one_is_told_finely);
	tcase_add_test(c, test_validity);
	tcase_add_test(c, test_any_records_can_be_read);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
