/* SPDX-License-Identifier: Apache-2.0 */
#include "api/route-target.h"
#include "base/str.h"

#include <check.h>
#include <stdlib.h>

static const char id[] = "iaaaaaaaaaaaaaaaaaaa";

/* Parses a request with these headers, each ended by a newline. */
static int parse(const char *headers, struct target *out)
{
	auto_buf in = BUF_INIT(HTTP_HEAD_MAX);
	struct http_head head = { 0 };
	struct err e = { 0 };
	int r = buf_printf(&in, "GET / HTTP/1.1\r\n%s\r\n", headers);

	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(http_head_parse_request(&in, &head, &e), 1);
	*out = (struct target){ 0 };
	r = target_parse(&head, "box.example.org", out, &e);
	ck_assert_int_eq(r < 0, err_is_set(&e));
	if (r < 0)
		ck_assert_int_eq(e.kind, ERR_INVALID);
	http_head_done(&head);
	return r;
}

static void assert_names(const char *headers, const char *want_id, unsigned port)
{
	struct target t;

	ck_assert_msg(parse(headers, &t) == 1, "%s", headers);
	ck_assert_str_eq(t.id, want_id);
	ck_assert_uint_eq(t.port, port);
}

static void assert_host(const char *host, int want)
{
	auto_free char *headers = str_printf("Host: %s\r\n", host);
	struct target t;
	int r = parse(headers, &t);

	ck_assert_msg(r == want || (want < 0 && r < 0), "%s: %d", host, r);
	if (want == 1) {
		ck_assert_str_eq(t.id, id);
		ck_assert_uint_eq(t.port, 8000);
	}
}

START_TEST(test_by_headers)
{
	struct target t;

	assert_names("E2b-Sandbox-Id: i1\r\nE2b-Sandbox-Port: 1\r\n", "i1", 1);
	assert_names("Host: x.org\r\ne2b-sandbox-id: i1\r\nE2B-SANDBOX-PORT: 65535\r\n", "i1",
		     65535);
	assert_names("E2b-Sandbox-Id: i1-client\r\nE2b-Sandbox-Port: 80\r\n", "i1", 80);
	/* They win over the host. */
	assert_names("Host: 1-i2.localhost\r\nE2b-Sandbox-Id: i1\r\nE2b-Sandbox-Port: 80\r\n", "i1",
		     80);
	ck_assert_int_lt(parse("E2b-Sandbox-Id: i1\r\n", &t), 0);
	ck_assert_int_lt(parse("Host: 1-i1.localhost\r\nE2b-Sandbox-Port: 1\r\n", &t), 0);
}
END_TEST

START_TEST(test_bad_headers)
{
	static const char *const bad[][2] = {
		{ "i1", "0" },      { "i1", "65536" }, { "i1", "-1" },   { "i1", "+1" },
		{ "i1", "8000x" },  { "i1", "" },      { "", "80" },     { "I1", "80" },
		{ "i_1", "80" },    { "-x", "80" },    { "i1/..", "1" }, { "i\xc3\xa4", "80" },
		{ "i1\" x", "80" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		auto_free char *headers = str_printf(
			"E2b-Sandbox-Id: %s\r\nE2b-Sandbox-Port: %s\r\n", bad[i][0], bad[i][1]);
		struct target t;

		ck_assert_msg(parse(headers, &t) < 0, "%s", headers);
	}
}
END_TEST

START_TEST(test_by_host)
{
	static const char *const good[] = {
		"8000-iaaaaaaaaaaaaaaaaaaa.localhost",
		"8000-iaaaaaaaaaaaaaaaaaaa.localhost:3999",
		"8000-iaaaaaaaaaaaaaaaaaaa.LOCALHOST.",
		"8000-IAAAAAAAAAAAAAAAAAAA.localhost.:80",
		"8000-iaaaaaaaaaaaaaaaaaaa-ignored.localhost",
		"8000-iaaaaaaaaaaaaaaaaaaa-a-b.box.example.org",
		"8000-iaaaaaaaaaaaaaaaaaaa.box.example.org:443",
	};
	static const char *const none[] = {
		"localhost",
		"127.0.0.1:3999",
		"[::1]:3999",
		"api.box.example.org",
		"my-box.localhost",
		"box.example.org",
		"8000-iaaaaaaaaaaaaaaaaaaa.example.org",
		"8000-iaaaaaaaaaaaaaaaaaaa.x.localhost",
		"8000-iaaaaaaaaaaaaaaaaaaa.localhost.evil.org",
		"8000-iaaaaaaaaaaaaaaaaaaa",
		"8000.localhost",
		".localhost",
	};
	static const char *const bad[] = {
		"0-iaaaaaaaaaaaaaaaaaaa.localhost",         "65536-iaaaaaaaaaaaaaaaaaaa.localhost",
		"80x-iaaaaaaaaaaaaaaaaaaa.localhost",       "80-.localhost",
		"80--iaaaaaaaaaaaaaaaaaaa.box.example.org", "80-a_b.localhost",
	};

	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_host(good[i], 1);
	for (size_t i = 0; i < ARRAY_SIZE(none); i++)
		assert_host(none[i], 0);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_host(bad[i], -1);
}
END_TEST

START_TEST(test_without_domain)
{
	auto_buf in = BUF_INIT(HTTP_HEAD_MAX);
	struct http_head head = { 0 };
	struct target t;
	int r = buf_puts(&in, "GET / HTTP/1.1\r\nHost: 80-i1.box.example.org\r\n\r\n");

	ck_assert_int_eq(r, 0);
	ck_assert_int_eq(http_head_parse_request(&in, &head, NULL), 1);
	ck_assert_int_eq(target_parse(&head, NULL, &t, NULL), 0);
	http_head_done(&head);
}
END_TEST

START_TEST(test_host_only)
{
	static const char *const only[] = {
		"/init",        "/INIT",     "/init/",       "//init",    "/%69nit",
		"/init%2f",     "/%2Finit",  "/freeze",      "/unfreeze", "/collapse",
		"/fsfreeze",    "/fsthaw",   "/upgrade",     "/clock",    "/clock/-1",
		"/loopback/80", "/loopback", "//LOOPBACK/1", "/%zz",      "/init%00"
	};
	static const char *const open[] = { "/", "/health", "/files", "/initial", "/x/init" };
	struct target agent = { .id = "i1", .port = 49983 };
	struct target other = { .id = "i1", .port = 8000 };

	for (size_t i = 0; i < ARRAY_SIZE(only); i++) {
		ck_assert_msg(target_is_host_only(&agent, only[i]), "%s", only[i]);
		ck_assert_msg(!target_is_host_only(&other, only[i]), "%s", only[i]);
	}
	for (size_t i = 0; i < ARRAY_SIZE(open); i++)
		ck_assert_msg(!target_is_host_only(&agent, open[i]), "%s", open[i]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("route_target");
	TCase *tc = tcase_create("route_target");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_by_headers);
	tcase_add_test(tc, test_bad_headers);
	tcase_add_test(tc, test_by_host);
	tcase_add_test(tc, test_without_domain);
	tcase_add_test(tc, test_host_only);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
