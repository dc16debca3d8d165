/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "sandbox/console.h"
#include "sandbox/journal.h"
#include "sandbox/logs.h"

#include <check.h>
#include <stdlib.h>

static struct console console = CONSOLE_INIT;
static struct journal journal;
static struct log_lines lines;

static void teardown(void)
{
	log_lines_free(&lines);
	journal_done(&journal);
	console_done(&console);
}

static void feed(const char *text)
{
	console_feed(&console, text, strlen(text));
}

static struct log_query all(void)
{
	return (struct log_query){ .to_ms = UINT64_MAX,
				   .limit = SIZE_MAX,
				   .least = LOG_LEVEL_DEBUG };
}

static size_t look(const struct log_query *q)
{
	struct log_snapshot *s = log_snapshot_of(&console, &journal);

	log_lines_free(&lines);
	log_snapshot_select(s, q, &lines);
	log_snapshot_free(s);
	return lines.n;
}

static size_t look_all(void)
{
	struct log_query q = all();

	return look(&q);
}

START_TEST(test_nothing)
{
	struct log_snapshot *s = log_snapshot_of(NULL, &journal);
	struct log_query q = all();

	ck_assert_uint_eq(look_all(), 0);
	log_snapshot_select(s, &q, &lines);
	ck_assert_uint_eq(lines.n, 0);
	log_snapshot_free(s);
	log_snapshot_free(NULL);
}
END_TEST

START_TEST(test_lines_are_printable)
{
	feed("one\r\n\n\033[1;31mred\033[0m \033x\007\x7f!\ttab  \r\nlast without an end");
	ck_assert_uint_eq(look_all(), 3);
	ck_assert_str_eq(lines.at[0].text, "one");
	ck_assert_str_eq(lines.at[1].text, "red x!\ttab");
	ck_assert_str_eq(lines.at[2].text, "last without an end");
	ck_assert(lines.at[0].console);
}
END_TEST

START_TEST(test_sequences_that_do_not_end)
{
	feed("a\033\nb\033[\nc\033[12");
	ck_assert_uint_eq(look_all(), 3);
	ck_assert_str_eq(lines.at[0].text, "a");
	ck_assert_str_eq(lines.at[1].text, "b");
	ck_assert_str_eq(lines.at[2].text, "c");
}
END_TEST

START_TEST(test_levels)
{
	struct log_query q = all();

	feed("all is well\n"
	     "[    1.0] WARNING: CPU: 0\n"
	     "viv-agent: fatal: no disk\n"
	     "[    2.0] Kernel panic - not syncing\n");
	ck_assert_uint_eq(look_all(), 4);
	ck_assert_int_eq(lines.at[0].level, LOG_LEVEL_INFO);
	ck_assert_int_eq(lines.at[1].level, LOG_LEVEL_WARNING);
	ck_assert_int_eq(lines.at[2].level, LOG_LEVEL_ERROR);
	ck_assert_int_eq(lines.at[3].level, LOG_LEVEL_ERROR);
	q.least = LOG_LEVEL_WARNING;
	ck_assert_uint_eq(look(&q), 3);
	q.least = LOG_LEVEL_ERROR;
	ck_assert_uint_eq(look(&q), 2);
}
END_TEST

START_TEST(test_journal_and_console_by_time)
{
	journal_add(&journal, 1, LOG_LEVEL_INFO, "created %d", 1);
	feed("boot\n");
	journal_add(&journal, UINT64_C(1) << 45, LOG_LEVEL_ERROR, "stopped");
	ck_assert_uint_eq(look_all(), 3);
	ck_assert_str_eq(lines.at[0].text, "created 1");
	ck_assert(!lines.at[0].console);
	ck_assert_str_eq(lines.at[1].text, "boot");
	ck_assert_uint_gt(lines.at[1].ms, 1700000000000);
	ck_assert_str_eq(lines.at[2].text, "stopped");
	ck_assert_int_eq(lines.at[2].level, LOG_LEVEL_ERROR);
}
END_TEST

START_TEST(test_range_order_limit_search)
{
	struct log_query q = all();

	for (unsigned i = 1; i <= 9; i++)
		journal_add(&journal, i * 10, LOG_LEVEL_INFO, "entry %u", i);
	q.from_ms = 30;
	q.to_ms = 70;
	ck_assert_uint_eq(look(&q), 5);
	q.limit = 2;
	ck_assert_uint_eq(look(&q), 2);
	ck_assert_str_eq(lines.at[0].text, "entry 3");
	ck_assert_str_eq(lines.at[1].text, "entry 4");
	q.backward = true;
	ck_assert_uint_eq(look(&q), 2);
	ck_assert_str_eq(lines.at[0].text, "entry 7");
	ck_assert_str_eq(lines.at[1].text, "entry 6");
	q.search = "try 5";
	ck_assert_uint_eq(look(&q), 1);
	ck_assert_str_eq(lines.at[0].text, "entry 5");
	q.search = "Try 5";
	ck_assert_uint_eq(look(&q), 0);
	q.search = NULL;
	q.limit = 0;
	ck_assert_uint_eq(look(&q), 0);
}
END_TEST

START_TEST(test_journal_is_bounded)
{
	char text[2 * JOURNAL_TEXT_MAX];

	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	for (unsigned i = 0; i < 3 * JOURNAL_MAX; i++)
		journal_add(&journal, i + 1, LOG_LEVEL_INFO, "%u %s", i, text);
	ck_assert_uint_eq(look_all(), JOURNAL_MAX);
	ck_assert(str_starts(lines.at[0].text, "128 "));
	ck_assert(str_starts(lines.at[JOURNAL_MAX - 1].text, "191 "));
	ck_assert_uint_lt(strlen(lines.at[0].text), JOURNAL_TEXT_MAX);
}
END_TEST

START_TEST(test_a_cut_line_is_not_shown)
{
	char *filler = xcalloc(CONSOLE_RING_BYTES, 1);

	memset(filler, 'x', CONSOLE_RING_BYTES - 1);
	feed("gone\nhalf");
	feed(filler);
	feed("\nwhole\n");
	ck_assert_uint_eq(look_all(), 1);
	ck_assert_str_eq(lines.at[0].text, "whole");
	free(filler);
}
END_TEST

START_TEST(test_marks)
{
	struct console_mark at[] = { { 0, 100 }, { 50, 300 } };
	struct console_marks m = { .at = at, .n = ARRAY_SIZE(at) };

	ck_assert_uint_eq(console_mark_time(&m, 0), 100);
	ck_assert_uint_eq(console_mark_time(&m, 49), 100);
	ck_assert_uint_eq(console_mark_time(&m, 50), 300);
	ck_assert_uint_eq(console_mark_time(&m, 1000), 300);
	m.n = 0;
	ck_assert_uint_eq(console_mark_time(&m, 5), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("logs");
	TCase *c = tcase_create("logs");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(c, NULL, teardown);
	tcase_add_test(c, test_nothing);
	tcase_add_test(c, test_lines_are_printable);
	tcase_add_test(c, test_sequences_that_do_not_end);
	tcase_add_test(c, test_levels);
	tcase_add_test(c, test_journal_and_console_by_time);
	tcase_add_test(c, test_range_order_limit_search);
	tcase_add_test(c, test_journal_is_bounded);
	tcase_add_test(c, test_a_cut_line_is_not_shown);
	tcase_add_test(c, test_marks);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
