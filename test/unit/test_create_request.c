/* SPDX-License-Identifier: Apache-2.0 */
#include "api/create-request.h"
#include "base/json.h"
#include "base/str.h"

#include <check.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#define BASE "\"templateID\":\"base\""

enum { V1 = 0, V2 = 1, DEPTH = 100000 };

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

static int parse_bytes(const char *body, size_t n, bool v2)
{
	teardown();
	setup();
	return create_request_parse(body, n, v2, &row, &error);
}

static int parse(const char *body, bool v2)
{
	return parse_bytes(body, strlen(body), v2);
}

static void accept(const char *body, bool v2)
{
	ck_assert_msg(parse(body, v2) == 0, "%s: %s", body, error.msg);
	ck_assert_int_eq(error.kind, ERR_NONE);
}

/* In both generations, with a message that holds @word. */
static void refuse_bytes(const char *body, size_t n, const char *word)
{
	for (int v2 = V1; v2 <= V2; v2++) {
		ck_assert_msg(parse_bytes(body, n, v2) == -EINVAL, "accepted: %s", body);
		ck_assert_int_eq(error.kind, ERR_INVALID);
		ck_assert_msg(strstr(error.msg, word) != NULL, "%s: '%s' lacks '%s'", body,
			      error.msg, word);
	}
}

static void refuse(const char *body, const char *word)
{
	refuse_bytes(body, strlen(body), word);
}

START_TEST(test_defaults)
{
	accept("{" BASE "}", V1);
	ck_assert_str_eq(row.template_name, "base");
	ck_assert_uint_eq(row.timeout_s, 15);
	ck_assert_str_eq(row.access_token, "");
	ck_assert_str_eq(row.env_json, "");
	ck_assert_str_eq(row.metadata_json, "");
	ck_assert_str_eq(row.name, "");
	ck_assert_uint_eq(row.cpus, 0);
	ck_assert_uint_eq(row.memory_mib, 0);
	ck_assert_uint_eq(row.disk_mib, 0);

	accept("{" BASE "}", V2);
	ck_assert_uint_eq(row.timeout_s, 300);
	ck_assert_uint_eq(strlen(row.access_token), 64);
}
END_TEST

START_TEST(test_timeout)
{
	accept("{" BASE ",\"timeout\":1}", V1);
	ck_assert_uint_eq(row.timeout_s, 1);
	accept("{" BASE ",\"timeout\":2147483647}", V2);
	ck_assert_uint_eq(row.timeout_s, INT_MAX);
	accept("{" BASE ",\"timeout\":null}", V1);
	ck_assert_uint_eq(row.timeout_s, 0);
	accept("{" BASE ",\"timeout\":null}", V2);
	ck_assert_uint_eq(row.timeout_s, 0);
}
END_TEST

START_TEST(test_secure)
{
	auto_free char *first = NULL;

	accept("{" BASE ",\"secure\":true}", V1);
	ck_assert_uint_eq(strlen(row.access_token), 64);
	ck_assert_uint_eq(strspn(row.access_token, "0123456789abcdef"), 64);
	first = str_dup(row.access_token);
	accept("{" BASE ",\"secure\":true}", V1);
	ck_assert_str_ne(row.access_token, first);
	accept("{" BASE ",\"secure\":false}", V1);
	ck_assert_str_eq(row.access_token, "");
	accept("{" BASE ",\"secure\":null}", V1);
	ck_assert_str_eq(row.access_token, "");
	ck_assert_int_eq(parse("{" BASE ",\"secure\":1}", V1), -EINVAL);
	ck_assert_ptr_nonnull(strstr(error.msg, "'secure'"));
}
END_TEST

START_TEST(test_second_generation_is_always_secured)
{
	accept("{" BASE ",\"secure\":false}", V2);
	ck_assert_uint_eq(strlen(row.access_token), 64);
}
END_TEST

START_TEST(test_maps)
{
	accept("{" BASE ",\"envVars\":{\"A\":\"1\",\"B\":\"x=y\"},\"metadata\":{\"\":\"e\"}}", V1);
	ck_assert_str_eq(row.env_json, "{\"A\":\"1\",\"B\":\"x=y\"}");
	ck_assert_str_eq(row.metadata_json, "{\"\":\"e\"}");
	accept("{" BASE ",\"envVars\":{},\"metadata\":null}", V1);
	ck_assert_str_eq(row.env_json, "{}");
	ck_assert_str_eq(row.metadata_json, "");
}
END_TEST

START_TEST(test_own_fields)
{
	accept("{" BASE ",\"vivarium\":{\"name\":\"n\",\"cpus\":2,\"memoryMB\":1024,"
	       "\"diskSizeMB\":8192,\"user\":\"root\",\"workdir\":\"/srv\"}}",
	       V2);
	ck_assert_str_eq(row.name, "n");
	ck_assert_uint_eq(row.cpus, 2);
	ck_assert_uint_eq(row.memory_mib, 1024);
	ck_assert_uint_eq(row.disk_mib, 8192);
	ck_assert_str_eq(row.user, "root");
	ck_assert_str_eq(row.workdir, "/srv");
	accept("{" BASE ",\"vivarium\":{\"name\":null,\"cpus\":null}}", V2);
	ck_assert_str_eq(row.name, "");
	ck_assert_uint_eq(row.cpus, 0);
	accept("{" BASE ",\"vivarium\":null}", V2);
}
END_TEST

START_TEST(test_utf8)
{
	accept("{\"templateID\":\"b\xc3\xa4se\",\"metadata\":{\"k\xc3\xa9y\":\"\xf0\x9f\x98\x80\"},"
	       "\"vivarium\":{\"name\":\"\\u00fc\"}}",
	       V1);
	ck_assert_str_eq(row.template_name, "b\xc3\xa4se");
	ck_assert_str_eq(row.metadata_json, "{\"k\xc3\xa9y\":\"\xf0\x9f\x98\x80\"}");
	ck_assert_str_eq(row.name, "\xc3\xbc"); /* whether it may be one, the manager decides */
}
END_TEST

START_TEST(test_lifecycle)
{
	accept("{" BASE "}", V2);
	ck_assert(!row.auto_pause && !row.auto_pause_disk_only && !row.auto_resume);
	accept("{" BASE ",\"autoPause\":true}", V1);
	ck_assert(row.auto_pause && !row.auto_pause_disk_only && !row.auto_resume);
	accept("{" BASE ",\"autoPause\":true,\"autoPauseMemory\":false}", V2);
	ck_assert(row.auto_pause && row.auto_pause_disk_only && !row.auto_resume);
	accept("{" BASE ",\"autoPause\":true,\"autoPauseMemory\":true,"
	       "\"autoResume\":{\"enabled\":true}}",
	       V2);
	ck_assert(row.auto_pause && !row.auto_pause_disk_only && row.auto_resume);
	accept("{" BASE ",\"autoResume\":{\"enabled\":true}}", V1);
	ck_assert(!row.auto_pause && row.auto_resume); /* paused by hand, woken by requests */
}
END_TEST

static const char *const accepted[] = {
	/* unknown fields are E2B's to come */
	"{" BASE ",\"color\":\"red\",\"nested\":{\"a\":[1,2,{}]}}",
	/* what asks for nothing */
	"{" BASE ",\"autoPause\":false,\"autoResume\":{\"enabled\":false},\"mcp\":null,\"iam\":{},"
	"\"volumeMounts\":[]}",
	"{" BASE ",\"autoPause\":null,\"autoPauseMemory\":null,\"autoResume\":null,"
	"\"allow_internet_access\":null,\"network\":null,\"volumeMounts\":null}",
	"{" BASE ",\"autoPauseMemory\":true,\"allow_internet_access\":true}",
	"{" BASE ",\"autoResume\":{}}",
	"{" BASE ",\"network\":{}}",
	"{" BASE ",\"network\":{\"allowPublicTraffic\":true,\"allowOut\":[],\"denyOut\":[],"
	"\"rules\":{},\"egressProxy\":null,\"httpsPorts\":[]}}",
	" \n{" BASE "}\n ",
};

START_TEST(test_accepted)
{
	accept(accepted[_i], V1);
	accept(accepted[_i], V2);
}
END_TEST

static const struct {
	const char *body;
	const char *word;
} refused[] = {
	{ "", "JSON" },
	{ " ", "JSON" },
	{ "{", "JSON" },
	{ "{" BASE "} x", "JSON" },
	{ "{" BASE ",}", "JSON" },
	{ "{'templateID':'base'}", "JSON" },
	{ "[]", "object" },
	{ "null", "" },
	{ "{}", "'templateID'" },
	{ "{\"templateID\":\"\"}", "'templateID'" },
	{ "{\"templateID\":null}", "'templateID'" },
	{ "{\"templateID\":5}", "'templateID'" },
	{ "{\"templateID\":[\"base\"]}", "'templateID'" },
	{ "{\"templateID\":\"a\",\"templateID\":\"b\"}", "duplicate" },
	{ "{" BASE ",\"metadata\":{\"a\":\"1\",\"a\":\"2\"}}", "duplicate" },
	{ "{" BASE ",\"timeout\":0}", "'timeout'" },
	{ "{" BASE ",\"timeout\":-1}", "'timeout'" },
	{ "{" BASE ",\"timeout\":1.5}", "'timeout'" },
	{ "{" BASE ",\"timeout\":\"15\"}", "'timeout'" },
	{ "{" BASE ",\"timeout\":true}", "'timeout'" },
	{ "{" BASE ",\"timeout\":2147483648}", "'timeout'" },
	{ "{" BASE ",\"timeout\":9223372036854775807}", "'timeout'" },
	{ "{" BASE ",\"timeout\":-9223372036854775808}", "'timeout'" },
	{ "{" BASE ",\"timeout\":9223372036854775808}", "JSON" },
	{ "{" BASE ",\"metadata\":[]}", "'metadata'" },
	{ "{" BASE ",\"metadata\":\"a=b\"}", "'metadata'" },
	{ "{" BASE ",\"metadata\":{\"a\":1}}", "'a'" },
	{ "{" BASE ",\"metadata\":{\"a\":null}}", "'a'" },
	{ "{" BASE ",\"envVars\":{\"A\":{}}}", "'A'" },
	{ "{" BASE ",\"envVars\":{\"\":\"x\"}}", "'envVars'" },
	{ "{" BASE ",\"envVars\":{\"A=B\":\"x\"}}", "'A=B'" },
	{ "{" BASE ",\"autoPause\":\"no\"}", "'autoPause'" },
	{ "{" BASE ",\"autoPauseMemory\":false}", "'autoPauseMemory'" },
	{ "{" BASE ",\"autoPause\":true,\"autoPauseMemory\":0}", "'autoPauseMemory'" },
	{ "{" BASE
	  ",\"autoPause\":true,\"autoPauseMemory\":false,\"autoResume\":{\"enabled\":true}}",
	  "'autoPauseMemory'" },
	{ "{" BASE ",\"autoResume\":{\"enabled\":1}}", "'autoResume.enabled'" },
	{ "{" BASE ",\"autoResume\":true}", "'autoResume'" },
	{ "{" BASE ",\"mcp\":{\"exa\":{}}}", "'mcp'" },
	{ "{" BASE ",\"iam\":{\"tokens\":{}}}", "'iam'" },
	{ "{" BASE ",\"volumeMounts\":[{\"name\":\"a\",\"path\":\"/a\"}]}", "'volumeMounts'" },
	{ "{" BASE ",\"allow_internet_access\":0}", "'allow_internet_access'" },
	{ "{" BASE ",\"network\":[]}", "'network'" },
	{ "{" BASE ",\"network\":{\"allowOut\":\"1.2.3.4\"}}", "'network.allowOut'" },
	{ "{" BASE ",\"network\":{\"allowOut\":[\"1.2.3.4\",5]}}", "'network.allowOut'" },
	{ "{" BASE ",\"network\":{\"allowOut\":[\"\"]}}", "'network.allowOut'" },
	{ "{" BASE ",\"network\":{\"allowOut\":[\"1.2.3.4 5.6.7.8\"]}}", "1.2.3.4 5.6.7.8" },
	{ "{" BASE ",\"network\":{\"allowOut\":[\"a.example\"]}}", "'a.example' is a domain" },
	{ "{" BASE ",\"network\":{\"allowOut\":[\"2001:db8::1\"]}}", "no IPv6" },
	{ "{" BASE ",\"network\":{\"allowOut\":[\"10.1.2.3\"]}}", "10.1.2.3' is in 10.0.0.0/8" },
	{ "{" BASE ",\"network\":{\"allowOut\":[\"169.254.169.254/32\"]}}", "169.254.0.0/16" },
	{ "{" BASE ",\"network\":{\"denyOut\":[\"*.example\"]}}", "'network.denyOut'" },
	{ "{" BASE ",\"network\":{\"denyOut\":[\"1.2.3.4/33\"]}}", "'1.2.3.4/33'" },
	{ "{" BASE ",\"network\":{\"denyOut\":{}}}", "'network.denyOut'" },
	{ "{" BASE ",\"network\":{\"allowPublicTraffic\":0}}", "'network.allowPublicTraffic'" },
	{ "{" BASE ",\"network\":{\"maskRequestHost\":\"\"}}", "'network.maskRequestHost'" },
	{ "{" BASE ",\"network\":{\"maskRequestHost\":\"a b\"}}", "'network.maskRequestHost'" },
	{ "{" BASE ",\"network\":{\"maskRequestHost\":\"a\\r\\nX: y\"}}",
	  "'network.maskRequestHost'" },
	{ "{" BASE ",\"network\":{\"maskRequestHost\":\"${HOST}\"}}", "'network.maskRequestHost'" },
	{ "{" BASE ",\"network\":{\"maskRequestHost\":\"\\u00e4\"}}", "'network.maskRequestHost'" },
	{ "{" BASE ",\"network\":{\"httpsPorts\":[8443]}}", "'network.httpsPorts'" },
	{ "{" BASE ",\"network\":{\"egressProxy\":{\"address\":\"a:1\"}}}",
	  "'network.egressProxy'" },
	{ "{" BASE ",\"network\":{\"rules\":{\"a.example\":[]}}}", "'network.rules'" },
	{ "{" BASE ",\"network\":{\"later\":1}}", "'network.later'" },
	{ "{" BASE ",\"vivarium\":[]}", "'vivarium'" },
	{ "{" BASE ",\"vivarium\":{\"cpu\":1}}", "'vivarium.cpu'" },
	{ "{" BASE ",\"vivarium\":{\"name\":1}}", "'vivarium.name'" },
	{ "{" BASE ",\"vivarium\":{\"user\":[]}}", "'vivarium.user'" },
	{ "{" BASE ",\"vivarium\":{\"workdir\":{}}}", "'vivarium.workdir'" },
	{ "{" BASE ",\"vivarium\":{\"cpus\":0}}", "'vivarium.cpus'" },
	{ "{" BASE ",\"vivarium\":{\"cpus\":1.5}}", "'vivarium.cpus'" },
	{ "{" BASE ",\"vivarium\":{\"cpus\":4294967297}}", "'vivarium.cpus'" },
	{ "{" BASE ",\"vivarium\":{\"memoryMB\":-1}}", "'vivarium.memoryMB'" },
	{ "{" BASE ",\"vivarium\":{\"diskSizeMB\":\"5G\"}}", "'vivarium.diskSizeMB'" },
	/* bytes */
	{ "{" BASE ",\"vivarium\":{\"name\":\"a\\u0000b\"}}", "JSON" },
	{ "{" BASE ",\"metadata\":{\"a\\u0000b\":\"c\"}}", "JSON" },
	{ "{\"templateID\":\"\xff\xfe\"}", "JSON" },
	{ "{\"templateID\":\"\xc0\xaf\"}", "JSON" },
	{ "{\"templateID\":\"\\ud800\"}", "JSON" },
	{ "{\"templateID\":\"a\nb\"}", "JSON" },
};

START_TEST(test_refused)
{
	refuse(refused[_i].body, refused[_i].word);
}
END_TEST

START_TEST(test_nul_bytes)
{
	static const char inside[] = "{\"templateID\":\"ba\0se\"}";
	static const char behind[] = "{" BASE "}\0";

	refuse_bytes(inside, sizeof(inside) - 1, "JSON");
	refuse_bytes(behind, sizeof(behind) - 1, "JSON");
}
END_TEST

/* Nesting without end must cost an answer, not the stack. */
START_TEST(test_depth)
{
	static const char openings[] = "[{";
	static const char start[] = "{" BASE ",\"x\":";
	auto_free char *body = xcalloc(1, 6 * DEPTH + 64);

	for (const char *open = openings; *open != '\0'; open++) {
		size_t n = sizeof(start) - 1;

		memcpy(body, start, n);
		for (int i = 0; i < DEPTH; i++) {
			body[n++] = *open;
			if (*open == '{') {
				memcpy(body + n, "\"a\":", 4);
				n += 4;
			}
		}
		refuse_bytes(body, n, "JSON");
	}
}
END_TEST

START_TEST(test_long_names_in_messages)
{
	auto_free char *body = xcalloc(1, 4096);
	size_t n = strlen("{" BASE ",\"vivarium\":{\"");

	memcpy(body, "{" BASE ",\"vivarium\":{\"", n);
	memset(body + n, 'x', 2000);
	memcpy(body + n + 2000, "\":1}}", 5);
	refuse(body, "'vivarium.xxx");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("create_request");
	TCase *c = tcase_create("parse");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, test_defaults);
	tcase_add_test(c, test_timeout);
	tcase_add_test(c, test_secure);
	tcase_add_test(c, test_second_generation_is_always_secured);
	tcase_add_test(c, test_maps);
	tcase_add_test(c, test_own_fields);
	tcase_add_test(c, test_utf8);
	tcase_add_test(c, test_lifecycle);
	tcase_add_loop_test(c, test_accepted, 0, ARRAY_SIZE(accepted));
	tcase_add_loop_test(c, test_refused, 0, ARRAY_SIZE(refused));
	tcase_add_test(c, test_nul_bytes);
	tcase_add_test(c, test_depth);
	tcase_add_test(c, test_long_names_in_messages);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
