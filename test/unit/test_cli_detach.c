/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/detach.h"

#include "base/str.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

enum { TEXT_MAX = 64 };

static const struct {
	const char *text;
	const char *keys; /* NULL = not taken */
} lists[] = {
	{ "", "" },
	{ DETACH_DEFAULT, "\x10\x11" },
	{ "ctrl-A,ctrl-_,ctrl-[,ctrl-\\", "\x01\x1f\x1b\x1c" },
	{ "x,~,ctrl-z", "x~\x1a" },
	{ "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p", "abcdefghijklmnop" },
	{ "a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q", NULL },
	{ ",", NULL },
	{ "a,", NULL },
	{ ",a", NULL },
	{ "ab", NULL },
	{ " ", NULL },
	{ "ctrl-", NULL },
	{ "ctrl-1", NULL },
	{ "ctrl-pq", NULL },
	{ "\x10", NULL },
	{ "\xc3\xa9", NULL },
};

START_TEST(test_parse)
{
	struct detach d = { .n = 3, .keys = "old" };
	int r = detach_parse(&d, lists[_i].text);

	ck_assert_int_eq(r, lists[_i].keys != NULL ? 0 : -EINVAL);
	if (r < 0) {
		ck_assert_uint_eq(d.n, 3);
		return;
	}
	ck_assert_uint_eq(d.n, strlen(lists[_i].keys));
	ck_assert_mem_eq(d.keys, lists[_i].keys, d.n);
}
END_TEST

static const struct {
	const char *keys;
	const char *in;
	const char *out;
	bool left;
} typed[] = {
	{ "", "any\x10\x11", "any\x10\x11", false },
	{ "a", "xyz", "xyz", false },
	{ "a", "xa", "x", true },
	{ "a,b", "xabc", "x", true },
	{ "a,b", "xacab", "xac", true },
	{ "a,b", "aab", "a", true },
	{ "a,b", "a", "", false },
	{ "a,a,b", "aaab", "a", true },
	{ "a,b,a,c", "ababac", "ab", true },
	{ "a,b,a,c", "abac", "", true },
	{ "a,b,a,c", "abaxabac", "abax", true },
	{ "a,a,a", "aabaaa", "aab", true },
};

/* However what was typed is cut into reads, the same comes of it. */
START_TEST(test_filter)
{
	size_t n = strlen(typed[_i].in);

	for (size_t cut = 1; cut <= n; cut++) {
		struct detach d;
		char out[TEXT_MAX] = "";
		size_t len = 0;
		bool left = false;

		ck_assert_int_eq(detach_parse(&d, typed[_i].keys), 0);
		for (size_t at = 0; at < n && !left; at += cut) {
			size_t more;

			left = detach_filter(&d, typed[_i].in + at, MIN(cut, n - at), out + len,
					     &more);
			len += more;
		}
		ck_assert_uint_eq(len, strlen(typed[_i].out));
		ck_assert_mem_eq(out, typed[_i].out, len);
		ck_assert_int_eq(left, typed[_i].left);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cli_detach");
	TCase *tc = tcase_create("detach");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, test_parse, 0, ARRAY_SIZE(lists));
	tcase_add_loop_test(tc, test_filter, 0, ARRAY_SIZE(typed));
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
