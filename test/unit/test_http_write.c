/* SPDX-License-Identifier: Apache-2.0 */
/* Writing messages; query strings. */
#include "base/str.h"
#include "http/codec.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

START_TEST(test_write_request)
{
	auto_buf out = BUF_INIT(4096);
	const struct http_field fields[] = { { "Host", "x" }, { "A", "" }, { NULL, NULL } };

	ck_assert_int_eq(http_write_request(&out, "GET", "/a?b", fields), 0);
	ck_assert_str_eq(buf_str(&out), "GET /a?b HTTP/1.1\r\nHost: x\r\nA: \r\n\r\n");
}
END_TEST

START_TEST(test_write_response)
{
	auto_buf out = BUF_INIT(4096);
	const struct http_field fields[] = { { "Allow", "GET" }, { NULL, NULL } };

	ck_assert_int_eq(http_write_response(&out, 405, fields), 0);
	ck_assert_str_eq(buf_str(&out), "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n\r\n");
	ck_assert_int_eq(http_write_response(&out, 99, fields), -EINVAL);
	ck_assert_int_eq(http_write_response(&out, 600, fields), -EINVAL);
	ck_assert_str_eq(http_status_text(404), "Not Found");
	ck_assert_str_eq(http_status_text(418), "Unknown");
	ck_assert_str_eq(http_status_text(-1), "Unknown");
	ck_assert_str_eq(http_status_text(100000), "Unknown");
}
END_TEST

static const struct {
	const char *method;
	const char *target;
	struct http_field field;
} unwritable[] = {
	{ "", "/", { "A", "b" } },
	{ "GE T", "/", { "A", "b" } },
	{ "GET\r\n", "/", { "A", "b" } },
	{ "GET", "", { "A", "b" } },
	{ "GET", "/ HTTP/1.1\r\nB: c", { "A", "b" } },
	{ "GET", "/a b", { "A", "b" } },
	{ "GET", "/", { "", "b" } },
	{ "GET", "/", { "A:", "b" } },
	{ "GET", "/", { "A ", "b" } },
	{ "GET", "/", { "A\n", "b" } },
	{ "GET", "/", { "A", "b\r\nC: d" } },
	{ "GET", "/", { "A", "b\n" } },
	{ "GET", "/", { "A", "b\r" } },
};

START_TEST(test_unwritable)
{
	const struct http_field fields[] = { unwritable[_i].field, { NULL, NULL } };
	auto_buf out = BUF_INIT(4096);

	ck_assert_int_eq(buf_puts(&out, "before"), 0);
	ck_assert_int_eq(
		http_write_request(&out, unwritable[_i].method, unwritable[_i].target, fields),
		-EINVAL);
	ck_assert_str_eq(buf_str(&out), "before");
}
END_TEST

/* What does not fit leaves nothing of itself behind. */
START_TEST(test_write_whole_or_nothing)
{
	const struct http_field fields[] = { { "A", "0123456789" }, { NULL, NULL } };

	for (size_t max = 0; max < 24; max++) {
		auto_buf out = BUF_INIT(max);

		ck_assert_int_eq(http_write_request(&out, "GET", "/", fields), -EMSGSIZE);
		ck_assert_int_eq(http_write_response(&out, 200, fields), -EMSGSIZE);
		ck_assert_int_eq(http_write_chunk(&out, "0123456789abcdef01234", 21), -EMSGSIZE);
		ck_assert_uint_eq(out.len, 0);
	}
}
END_TEST

START_TEST(test_write_chunks)
{
	auto_buf out = BUF_INIT(4096);

	ck_assert_int_eq(http_write_chunk(&out, "hello world", 11), 0);
	ck_assert_int_eq(http_write_chunk(&out, "", 0), 0);
	ck_assert_int_eq(http_write_last_chunk(&out), 0);
	ck_assert_str_eq(buf_str(&out), "b\r\nhello world\r\n0\r\n\r\n");
}
END_TEST

static const struct {
	const char *query;
	int r;
	const char *value;
} queries[] = {
	{ "", 0, NULL },
	{ "a=1", 1, "1" },
	{ "b=2&a=1", 1, "1" },
	{ "a=1&a=2", 1, "1" },
	{ "a", 1, "" },
	{ "a=", 1, "" },
	{ "a&b=1", 1, "" },
	{ "%61=x%20y+z%2B%26", 1, "x y z+&" },
	{ "a=b=c", 1, "b=c" },
	{ "ab=1&xa=2&A=3", 0, NULL },
	{ "&&=&a=1&", 1, "1" },
	{ "a=%ff", 1, "\xff" },
	{ "a=%4", -EBADMSG, NULL },
	{ "a=%", -EBADMSG, NULL },
	{ "a=%4&b=1", -EBADMSG, NULL },
	{ "a=%4g", -EBADMSG, NULL },
	{ "a=%00", -EBADMSG, NULL },
	{ "%zz=1&a=1", -EBADMSG, NULL },
};

START_TEST(test_query)
{
	char nothing[] = "";
	char *untouched = nothing;
	char *value = untouched;
	int r = http_query_get(queries[_i].query, "a", &value);

	ck_assert_int_eq(r, queries[_i].r);
	if (r == 1) {
		ck_assert_str_eq(value, queries[_i].value);
		free(value);
	} else {
		ck_assert_ptr_eq(value, untouched);
	}
}
END_TEST

START_TEST(test_percent_decode)
{
	auto_free char *plain = NULL;
	auto_free char *plus = NULL;
	auto_free char *none = NULL;

	ck_assert_int_eq(http_percent_decode("a+b%2Fc%e4", 10, false, &plain), 0);
	ck_assert_str_eq(plain, "a+b/c\xe4");
	ck_assert_int_eq(http_percent_decode("a+b", 3, true, &plus), 0);
	ck_assert_str_eq(plus, "a b");
	/* The length ends it, also in the middle of an escape. */
	ck_assert_int_eq(http_percent_decode("a%41", 3, false, &none), -EBADMSG);
	ck_assert_int_eq(http_percent_decode("a\0b", 3, false, &none), -EBADMSG);
	ck_assert_ptr_null(none);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_write");
	TCase *writing = tcase_create("writing");
	TCase *query = tcase_create("query");
	SRunner *sr;
	int failed;

	tcase_add_test(writing, test_write_request);
	tcase_add_test(writing, test_write_response);
	tcase_add_loop_test(writing, test_unwritable, 0, ARRAY_SIZE(unwritable));
	tcase_add_test(writing, test_write_whole_or_nothing);
	tcase_add_test(writing, test_write_chunks);
	tcase_add_loop_test(query, test_query, 0, ARRAY_SIZE(queries));
	tcase_add_test(query, test_percent_decode);
	suite_add_tcase(s, writing);
	suite_add_tcase(s, query);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
