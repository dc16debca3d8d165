/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/address.h"

#include <check.h>
#include <stdlib.h>

START_TEST(test_what_is_parsed_is_printed)
{
	static const struct {
		const char *text;
		bool loopback;
	} good[] = {
		{ "127.0.0.1:3999", true },  { "127.9.9.9:0", true },
		{ "[::1]:65535", true },     { "0.0.0.0:1", false },
		{ "192.168.1.2:80", false }, { "[::]:80", false },
		{ "128.0.0.1:80", false },   { "[fe80::1:2]:3999", false },
		{ "[2001:db8::]:1", false },
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		struct address a;
		char text[ADDRESS_TEXT_SIZE];

		ck_assert_msg(address_parse(good[i].text, &a) == 0, "%s", good[i].text);
		ck_assert_int_eq(address_is_loopback(&a), good[i].loopback);
		address_print(&a, text);
		ck_assert_str_eq(text, good[i].text);
	}
}
END_TEST

START_TEST(test_what_is_no_address)
{
	static const char *const bad[] = {
		"",
		"3999",
		":3999",
		"127.0.0.1",
		"127.0.0.1:",
		"127.0.0.1:65536",
		"127.0.0.1:-1",
		"127.0.0.1:80x",
		"127.1:80",
		"localhost:3999",
		"::1:3999",
		"[::1]",
		"[::1]3999",
		"[::1:3999",
		"[127.0.0.1]:80",
		"[]:80",
		"[::1]]:80",
		"1.2.3.4:5:6",
		"[fe80::1%lo]:80",
		" 127.0.0.1:80",
		"127.0.0.1 :1",
		"00000000000000000000000000000000000000000000000127.0.0.1:80",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct address a;

		ck_assert_msg(address_parse(bad[i], &a) < 0, "%s", bad[i]);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("address");
	TCase *tc = tcase_create("address");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_what_is_parsed_is_printed);
	tcase_add_test(tc, test_what_is_no_address);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
