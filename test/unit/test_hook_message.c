/* SPDX-License-Identifier: Apache-2.0 */
/* What is posted, what signs it, what comes back, and when the next try is. */
#include "base/hookwords.h"
#include "base/str.h"
#include "daemon/hook-message.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>

static const struct db_webhook webhook = { .id = "w0123456789ab",
					   .url = "https://example.org/",
					   .secret = "key" };

static const struct db_event killed = {
	.id = 17,
	.at_ms = 1700000005000,
	.type = "killed",
	.sandbox = "i0000000000000000000",
	.name = "web",
	.template_name = "base",
	.cause = "timeout",
	.error = "gone\xff",
	.generation = 3,
};

static struct db_event_facts facts = {
	.execution = 4, .running_ms = 1700000001000, .cpus = 2, .memory_mib = 512
};

static struct hook_delivery delivery(const struct db_event *event)
{
	return (struct hook_delivery){ .n = 9,
				       .webhook = &webhook,
				       .event = event,
				       .facts = &facts,
				       .tag = "ab12",
				       .now_ms = 1700000009999 };
}

static json_t *body_of(const struct hook_delivery *d)
{
	auto_free char *text = hook_body(d);
	json_t *o;

	ck_assert_ptr_nonnull(text);
	o = json_loads(text, 0, NULL);
	ck_assert(json_is_object(o));
	return o;
}

static const char *text_at(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));

	ck_assert_msg(text != NULL, "%s", key);
	return text;
}

START_TEST(test_body)
{
	struct hook_delivery d = delivery(&killed);
	auto_json *o = NULL;
	const json_t *data;
	const json_t *own;
	const json_t *run;

	facts.metadata_json = str_dup("{\"a\":\"b\"}");
	o = body_of(&d);
	ck_assert_str_eq(text_at(o, "type"), "sandbox.lifecycle.killed");
	ck_assert_str_eq(text_at(o, "event_label"), "kill");
	ck_assert_str_eq(text_at(o, "timestamp"), "2023-11-14T22:13:25.000Z");
	ck_assert_uint_eq(strlen(text_at(o, "id")), 36);
	data = json_object_get(o, "event_data");
	ck_assert_str_eq(text_at(json_object_get(data, "sandbox_metadata"), "a"), "b");
	own = json_object_get(data, "vivarium");
	ck_assert_str_eq(text_at(own, "name"), "web");
	ck_assert_str_eq(text_at(own, "cause"), "timeout");
	ck_assert_str_eq(text_at(own, "error"), "see GET /events"); /* it is no UTF-8 */
	ck_assert_int_eq(json_integer_value(json_object_get(own, "event")), 17);
	run = json_object_get(data, "execution");
	ck_assert_int_eq(json_integer_value(json_object_get(run, "execution_time")), 4000);
	ck_assert_int_eq(json_integer_value(json_object_get(run, "vcpu_count")), 2);
	free(take_ptr(&facts.metadata_json));
}
END_TEST

/* What is not known, or too much, is left out, and the rest is whole. */
START_TEST(test_body_of_little)
{
	struct db_event event = killed;
	struct hook_delivery d = delivery(&event);
	auto_free char *much = str_printf("{\"a\":\"%020000d\"}", 1);
	const char *const texts[] = { "", "nonsense", much };

	event.type = "created";
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		auto_json *o = NULL;
		const json_t *data;

		facts.metadata_json = str_dup(texts[i]);
		o = body_of(&d);
		data = json_object_get(o, "event_data");
		ck_assert_uint_eq(json_object_size(json_object_get(data, "sandbox_metadata")), 0);
		ck_assert(json_is_object(json_object_get(data, "sandbox_metadata")));
		ck_assert_ptr_null(json_object_get(data, "execution"));
		free(take_ptr(&facts.metadata_json));
	}
}
END_TEST

START_TEST(test_ids_are_of_what_they_tell)
{
	struct hook_delivery d = delivery(&killed);
	struct hook_delivery other = delivery(&killed);
	auto_json *a = NULL;
	auto_json *b = NULL;
	auto_json *c = NULL;

	facts.metadata_json = str_dup("");
	other.tag = "cd34";
	a = body_of(&d);
	b = body_of(&d);
	c = body_of(&other);
	ck_assert_str_eq(text_at(a, "id"), text_at(b, "id"));
	ck_assert_str_ne(text_at(a, "id"), text_at(c, "id"));
	ck_assert_str_ne(text_at(a, "sandbox_team_id"), text_at(c, "sandbox_team_id"));
	free(take_ptr(&facts.metadata_json));
}
END_TEST

static bool has_field(const json_t *message, const char *want)
{
	const json_t *field;
	size_t i;

	json_array_foreach(json_object_get(message, "fields"), i, field)
	{
		if (streq(json_string_value(field), want))
			return true;
	}
	return false;
}

START_TEST(test_message)
{
	struct hook_delivery d = delivery(&killed);
	auto_json *m = hook_message(&d, "{}");

	ck_assert_str_eq(text_at(m, "url"), webhook.url);
	ck_assert_str_eq(text_at(m, "body"), "{}");
	ck_assert(json_is_false(json_object_get(m, "private")));
	ck_assert(has_field(m, "e2b-webhook-id: w0123456789ab"));
	ck_assert(has_field(m, "e2b-signature-version: v1"));
	/* printf 'key{}' | openssl sha256 -binary | base64 */
	ck_assert(has_field(m, "e2b-signature: k7hnN3UnZE62xCYpdrD4oDLbnbWBrxx0l69f3Fyg8tc"));
	/* printf '1700000009.{}' | openssl sha256 -hmac key */
	ck_assert(has_field(m, "Vivarium-Signature: "
			       "t=1700000009,v1="
			       "402f4828e82e8c3dccb9a776c765f734c0a275bf7b42ece66b16d2acf46214e2"));
}
END_TEST

static int parse(const char *text, struct hook_result *out)
{
	return hook_result_parse(text, strlen(text), out);
}

START_TEST(test_results)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"n\":1,\"status\":200}",
		"{\"n\":-1,\"status\":200,\"error\":\"\"}",
		"{\"n\":1,\"status\":1000,\"error\":\"\"}",
		"{\"n\":1,\"status\":-1,\"error\":\"\"}",
		"{\"n\":\"1\",\"status\":200,\"error\":\"\"}",

	};
	struct hook_result r = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(parse(bad[i], &r) == -EBADMSG, "%s", bad[i]);
	ck_assert_int_eq(parse("{\"n\":7,\"status\":204,\"error\":\"\"}", &r), 0);
	ck_assert(r.n == 7 && r.status == 204 && r.error[0] == '\0');
	ck_assert_int_eq(parse("{\"n\":7,\"status\":302,\"error\":\"\"}", &r), 0);
	ck_assert_str_eq(r.error, "it answered with status 302");
	ck_assert_int_eq(parse("{\"n\":7,\"status\":0,\"error\":\"a\\nb\\u00e9\"}", &r), 0);
	ck_assert_str_eq(r.error, "a?b??");
	ck_assert_int_eq(parse("{\"n\":7,\"status\":0,\"error\":\"\"}", &r), 0);
	ck_assert_str_eq(r.error, "no reply");
}
END_TEST

START_TEST(test_back_off)
{
	ck_assert_uint_eq(hook_back_off_ms(1, 0), 500);
	ck_assert_uint_eq(hook_back_off_ms(1, 500), 1000);
	ck_assert_uint_eq(hook_back_off_ms(2, 0), 1000);
	ck_assert_uint_eq(hook_back_off_ms(10, 0), 256000);
	for (unsigned tries = 1; tries < 100000; tries = tries * 3 / 2 + 1) {
		uint64_t ms = hook_back_off_ms(tries, UINT32_MAX - tries);

		ck_assert(ms >= 500 && ms <= 900000);
		ck_assert(tries < 11 || ms >= 450000);
	}
	ck_assert_uint_ge(hook_back_off_ms(UINT32_MAX, 0), 450000);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("hook_message");
	TCase *tc = tcase_create("hook_message");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_body);
	tcase_add_test(tc, test_body_of_little);
	tcase_add_test(tc, test_ids_are_of_what_they_tell);
	tcase_add_test(tc, test_message);
	tcase_add_test(tc, test_results);
	tcase_add_test(tc, test_back_off);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
