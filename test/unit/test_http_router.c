/* SPDX-License-Identifier: Apache-2.0 */
#include "http/router.h"

#include "base/str.h"

#include <check.h>
#include <stdlib.h>

static void handler(struct http_exchange *x, const struct route_params *params, void *arg)
{
	(void)x;
	(void)params;
	(void)arg;
}

static const struct route table[] = {
	{ "GET", "/", handler },
	{ "GET", "/sandboxes", handler },
	{ "POST", "/sandboxes", handler },
	{ "GET", "/sandboxes/metrics", handler },
	{ "GET", "/sandboxes/{id}", handler },
	{ "DELETE", "/sandboxes/{id}", handler },
	{ "POST", "/sandboxes/{id}/timeout", handler },
	{ "GET", "/t/{a}/b/{c}", handler },
	{ "POST", "/process.Process/Start", handler },
};

static const struct {
	const char *method;
	const char *path;
	int route;         /* index in the table; -1 = none */
	const char *allow; /* without a route */
	const char *first;
	const char *second;
} requests[] = {
	{ "GET", "/", 0, NULL, NULL, NULL },
	{ "GET", "/sandboxes", 1, NULL, NULL, NULL },
	{ "POST", "/sandboxes", 2, NULL, NULL, NULL },
	{ "GET", "/sand%62oxes", 1, NULL, NULL, NULL },
	{ "GET", "/sandboxes/metrics", 3, NULL, NULL, NULL },
	{ "GET", "/sandboxes/abc", 4, NULL, "abc", NULL },
	{ "GET", "/sandboxes/{id}", 4, NULL, "{id}", NULL },
	{ "DELETE", "/sandboxes/metrics", 5, NULL, "metrics", NULL },
	{ "GET", "/sandboxes/a%2Fb+c%20d", 4, NULL, "a/b+c d", NULL },
	{ "POST", "/sandboxes/abc/timeout", 6, NULL, "abc", NULL },
	{ "GET", "/t/1/b/2", 7, NULL, "1", "2" },
	{ "POST", "/process.Process/Start", 8, NULL, NULL, NULL },
	/* 405 */
	{ "PUT", "/sandboxes", -1, "GET, POST", NULL, NULL },
	{ "get", "/sandboxes", -1, "GET, POST", NULL, NULL },
	{ "PUT", "/sandboxes/metrics", -1, "GET, DELETE", NULL, NULL },
	{ "GET", "/sandboxes/abc/timeout", -1, "POST", NULL, NULL },
	/* 404 */
	{ "GET", "/sandbox", -1, "", NULL, NULL },
	{ "GET", "/sandboxess", -1, "", NULL, NULL },
	{ "GET", "/Sandboxes", -1, "", NULL, NULL },
	{ "GET", "/sandboxes/", -1, "", NULL, NULL },
	{ "GET", "//sandboxes", -1, "", NULL, NULL },
	{ "GET", "/sandboxes/abc/", -1, "", NULL, NULL },
	{ "POST", "/sandboxes//timeout", -1, "", NULL, NULL },
	{ "GET", "/sandboxes%2Fabc", -1, "", NULL, NULL },
	{ "GET", "/sandboxes/a%", -1, "", NULL, NULL },
	{ "GET", "/sandboxes/a%4", -1, "", NULL, NULL },
	{ "GET", "/sandboxes/%zz", -1, "", NULL, NULL },
	{ "GET", "/sandboxes/a%00", -1, "", NULL, NULL },
	{ "GET", "/t/1/b", -1, "", NULL, NULL },
	{ "GET", "/t/1/c/2", -1, "", NULL, NULL },
	{ "OPTIONS", "*", -1, "", NULL, NULL },
	{ "GET", "", -1, "", NULL, NULL },
};

START_TEST(test_find)
{
	struct http_head head = { .method = requests[_i].method, .path = requests[_i].path };
	struct route_params params = { .n = 77 };
	char allow[64] = "left over";
	const struct route *found =
		route_find(table, ARRAY_SIZE(table), &head, &params, allow, sizeof(allow));
	size_t n = (requests[_i].first != NULL) + (requests[_i].second != NULL);

	if (requests[_i].route < 0) {
		ck_assert_ptr_null(found);
		ck_assert_str_eq(allow, requests[_i].allow);
		ck_assert_uint_eq(params.n, 77);
		return;
	}
	ck_assert_ptr_eq(found, &table[requests[_i].route]);
	ck_assert_str_eq(allow, "");
	ck_assert_uint_eq(params.n, n);
	if (n > 0)
		ck_assert_str_eq(params.at[0], requests[_i].first);
	if (n > 1)
		ck_assert_str_eq(params.at[1], requests[_i].second);
}
END_TEST

/* A parameter of up to 255 bytes, counted after decoding. */
START_TEST(test_param_size)
{
	for (size_t n = ROUTE_PARAM_SIZE - 1; n <= ROUTE_PARAM_SIZE; n++) {
		char path[32 + 3 * ROUTE_PARAM_SIZE] = "/sandboxes/";
		struct http_head head = { .method = "GET", .path = path };
		struct route_params params = { 0 };
		size_t used = strlen(path);
		const struct route *found;
		char allow[64];

		for (size_t i = 0; i < n; i++, used += 3)
			ck_assert_int_eq(str_fit(path + used, sizeof(path) - used, "%%61"), 0);
		found = route_find(table, ARRAY_SIZE(table), &head, &params, allow, sizeof(allow));
		if (n < ROUTE_PARAM_SIZE) {
			ck_assert_ptr_eq(found, &table[4]);
			ck_assert_uint_eq(strlen(params.at[0]), n);
		} else {
			ck_assert_ptr_null(found);
			ck_assert_str_eq(allow, "");
		}
	}
}
END_TEST

/* What does not fit into the list is left out whole. */
START_TEST(test_allow_size)
{
	struct http_head head = { .method = "PUT", .path = "/sandboxes" };
	struct route_params params;
	char allow[8];

	ck_assert_ptr_null(
		route_find(table, ARRAY_SIZE(table), &head, &params, allow, sizeof(allow)));
	ck_assert_str_eq(allow, "GET");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("http_router");
	TCase *tc = tcase_create("find");
	SRunner *sr;
	int failed;

	tcase_add_loop_test(tc, test_find, 0, ARRAY_SIZE(requests));
	tcase_add_test(tc, test_param_size);
	tcase_add_test(tc, test_allow_size);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
