/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/text.h"

#include "base/str.h"

#include <check.h>
#include <stdlib.h>

static const struct {
	uint64_t bytes;
	const char *text;
} sizes[] = {
	{ 0, "0K" },
	{ 511, "0K" },
	{ 513, "1K" },
	{ 1023 * 1024, "1023K" },
	{ 1024 * 1024 - 1, "1.0M" },
	{ 1024 * 1024, "1.0M" },
	{ 2781184, "2.7M" },
	{ 10430000, "9.9M" },
	{ 10440000, "10M" },
	{ UINT64_C(512) << 20, "512M" },
	{ UINT64_C(5) << 30, "5.0G" },
	{ UINT64_C(76003) << 20, "74G" },
	{ UINT64_MAX, "16E" },
};

START_TEST(size_is_shown_in_its_unit)
{
	ck_assert_str_eq(size_text(sizes[_i].bytes).s, sizes[_i].text);
}
END_TEST

START_TEST(plain_text_commands_no_terminal)
{
	auto_free char *plain = plain_text("a\x1b[2J\x7f\x01\tb\nc");

	ck_assert_str_eq(plain, "a?[2J??\tb\nc");
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("cli_text");
	TCase *tc = tcase_create("text");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, size_is_shown_in_its_unit, 0, ARRAY_SIZE(sizes));
	tcase_add_test(tc, plain_text_commands_no_terminal);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
