/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox's network may be asked to be; what is refused at a create, test_create_request.c
 * has. */
#include "api/network-request.h"

#include "api/traffic.h"
#include "base/buf.h"
#include "base/str.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

static struct db_sandbox row;
static struct err error;

static void setup(void)
{
	db_sandbox_init(&row);
	error = (struct err){ 0 };
}

static void teardown(void)
{
	db_sandbox_done(&row);
}

static void again(void)
{
	teardown();
	setup();
}

/* Of a new sandbox with a token for its agent. */
static int take_as(const char *token, const char *body)
{
	auto_json *o = json_loads(body, 0, NULL);

	again();
	db_set_str(&row.access_token, token);
	return network_request_take(o, &row, &error);
}

static int take(const char *body)
{
	return take_as("secret", body);
}

static int change(const char *body)
{
	again();
	return network_request_parse(body, strlen(body), &row.egress, &error);
}

static void assert_egress(const char *allow, const char *deny, const char *internet)
{
	ck_assert_str_eq(row.egress.allow_out, allow);
	ck_assert_str_eq(row.egress.deny_out, deny);
	ck_assert_str_eq(row.egress.internet_access, internet);
}

START_TEST(test_create)
{
	ck_assert_int_eq(take("{}"), 0);
	assert_egress("", "", "");
	ck_assert_int_eq(take("{\"allow_internet_access\":false,\"network\":{}}"), 0);
	assert_egress("", "", "false");
	ck_assert_int_eq(take("{\"allow_internet_access\":true,\"network\":{\"allowOut\":"
			      "[\"192.0.2.1\",\"198.51.100.7/24\"],\"denyOut\":[\"0.0.0.0/0\","
			      "\"10.0.0.0/8\"]}}"),
			 0);
	assert_egress("192.0.2.1 198.51.100.7/24", "0.0.0.0/0 10.0.0.0/8", "true");
	ck_assert_str_eq(row.traffic_token, "");
	/* ranges of which a part can be reached */
	ck_assert_int_eq(take("{\"network\":{\"allowOut\":[\"0.0.0.0/0\",\"8.0.0.0/6\"]}}"), 0);
}
END_TEST

START_TEST(test_public_traffic)
{
	ck_assert_int_eq(take("{\"network\":{\"allowPublicTraffic\":false}}"), 0);
	ck_assert_uint_eq(strlen(row.traffic_token), 64);
	ck_assert_int_eq(take("{\"network\":{\"allowPublicTraffic\":true}}"), 0);
	ck_assert_str_eq(row.traffic_token, "");
	ck_assert_int_eq(take_as("", "{\"network\":{\"allowPublicTraffic\":false}}"), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error.msg, "'secure'"));
}
END_TEST

START_TEST(test_change)
{
	ck_assert_int_eq(change("{}"), 0);
	assert_egress("", "", "");
	ck_assert_int_eq(change("{\"denyOut\":[\"192.0.2.0/24\"],\"allow_internet_access\":true}"),
			 0);
	assert_egress("", "192.0.2.0/24", "true");
	ck_assert_int_eq(change("{\"allowOut\":null,\"denyOut\":[],\"rules\":{},"
				"\"egressProxy\":null,\"allow_internet_access\":null}"),
			 0);
	assert_egress("", "", "");
}
END_TEST

static const struct {
	const char *body;
	const char *word;
} refused[] = {
	{ "", "JSON" },
	{ "[]", "object" },
	{ "{\"denyOut\":[\"300.1.2.3\"]}", "300.1.2.3" },
	{ "{\"denyOut\":[\"example.org\"]}", "'denyOut': 'example.org' is a domain" },
	{ "{\"denyOut\":[null]}", "'denyOut'" },
	{ "{\"allowOut\":[\"example.org\"],\"denyOut\":[\"0.0.0.0/0\"]}", "'example.org'" },
	{ "{\"allowOut\":[\"192.168.1.1\"]}", "192.168.0.0/16, which no sandbox may reach" },
	{ "{\"allow_internet_access\":\"no\"}", "'allow_internet_access'" },
	{ "{\"rules\":{\"a.example\":[]}}", "'rules'" },
	{ "{\"egressProxy\":{\"address\":\"192.0.2.9:1080\"}}", "'egressProxy'" },
	{ "{\"allowPublicTraffic\":true}", "'allowPublicTraffic'" },
	{ "{\"denyout\":[\"0.0.0.0/0\"]}", "'denyout'" },
};

START_TEST(test_refused)
{
	ck_assert_int_eq(change(refused[_i].body), -EINVAL);
	ck_assert_int_eq(error.kind, ERR_INVALID);
	ck_assert_msg(strstr(error.msg, refused[_i].word) != NULL, "%s", error.msg);
}
END_TEST

START_TEST(test_long_lists)
{
	auto_buf body = BUF_INIT(1 << 20);

	ck_assert_int_eq(buf_puts(&body, "{\"denyOut\":[\"255.255.255.255/32\""), 0);
	for (int i = 1; i < 1000; i++)
		ck_assert_int_eq(buf_puts(&body, ",\"255.255.255.255/32\""), 0);
	ck_assert_int_eq(buf_puts(&body, "]}"), 0);
	ck_assert_int_eq(change(buf_str(&body)), 0);
	ck_assert_uint_eq(strlen(row.egress.deny_out), 1000 * 19 - 1);
	body.len -= 2;
	ck_assert_int_eq(buf_puts(&body, ",\"1.2.3.4\"]}"), 0);
	ck_assert_int_eq(change(buf_str(&body)), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error.msg, "'denyOut' has more than 1000"));
}
END_TEST

static void assert_shown(const char *want)
{
	auto_json *o = json_of_network(&row);
	auto_free char *text = o == NULL ? NULL : json_dumps(o, JSON_COMPACT);

	if (want == NULL)
		ck_assert_ptr_null(o);
	else
		ck_assert_str_eq(text, want);
}

START_TEST(test_shown)
{
	assert_shown(NULL);
	db_set_str(&row.egress.internet_access, "false"); /* is a field of its own */
	assert_shown(NULL);
	db_set_str(&row.egress.allow_out, "192.0.2.1 198.51.100.7/24");
	assert_shown("{\"allowOut\":[\"192.0.2.1\",\"198.51.100.7/24\"],\"denyOut\":[],"
		     "\"allowPublicTraffic\":true}");
	again();
	db_set_str(&row.traffic_token, "t");
	db_set_str(&row.mask_host, "a:${PORT}");
	assert_shown("{\"allowOut\":[],\"denyOut\":[],\"allowPublicTraffic\":false,"
		     "\"maskRequestHost\":\"a:${PORT}\"}");
}
END_TEST

static void assert_host(const char *mask, const char *want)
{
	auto_free char *host = NULL;

	db_set_str(&row.mask_host, mask);
	host = traffic_host(&row, 8080);
	if (want == NULL)
		ck_assert_ptr_null(host);
	else
		ck_assert_str_eq(host, want);
}

START_TEST(test_mask_host)
{
	assert_host("", NULL);
	assert_host("example.org", "example.org");
	assert_host("localhost:${PORT}", "localhost:8080");
	assert_host("${PORT}.a:${PORT}", "8080.a:8080");
	ck_assert_int_eq(take("{\"network\":{\"maskRequestHost\":\"[::1]:${PORT}\"}}"), 0);
	assert_host(row.mask_host, "[::1]:8080");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("network_request");
	TCase *tc = tcase_create("network_request");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_create);
	tcase_add_test(tc, test_public_traffic);
	tcase_add_test(tc, test_change);
	tcase_add_loop_test(tc, test_refused, 0, (int)ARRAY_SIZE(refused));
	tcase_add_test(tc, test_long_lists);
	tcase_add_test(tc, test_shown);
	tcase_add_test(tc, test_mask_host);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
