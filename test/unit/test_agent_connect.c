/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's parsers and tables: envelopes, headers, fields, base64, signals, and the output ring.
 */
#include "agent/envelope.h"
#include "agent/field.h"
#include "agent/ring.h"
#include "agent/signals.h"
#include "base/base64.h"
#include "base/str.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

/* Feeds the bytes in pieces of @step; the code of the error, or OK with the message appended. */
static enum connect_code read_envelope(const char *p, size_t n, size_t step, struct buf *out)
{
	struct envelope_reader r = ENVELOPE_READER_INIT;
	struct connect_error e = { 0 };
	int failed = 0;

	for (size_t i = 0; i < n && failed == 0; i += step)
		failed = envelope_feed(&r, p + i, MIN(step, n - i), &e);
	if (failed == 0)
		failed = envelope_finish(&r, &e);
	if (failed == 0 && out != NULL)
		ck_assert_int_eq(buf_append(out, buf_head(&r.message), r.message.len), 0);
	ck_assert_int_eq(failed, e.code == CONNECT_OK ? 0 : -EPROTO);
	envelope_reader_done(&r);
	return e.code;
}

START_TEST(envelope_whole_in_any_pieces)
{
	const char bytes[] = "\0\0\0\0\x0b{\"pid\":123}";

	for (size_t step = 1; step <= sizeof(bytes); step++) {
		auto_buf message = BUF_INIT(100);

		ck_assert_int_eq(read_envelope(bytes, sizeof(bytes) - 1, step, &message),
				 CONNECT_OK);
		ck_assert_str_eq(buf_str(&message), "{\"pid\":123}");
	}
}
END_TEST

START_TEST(envelopes_one_after_the_other)
{
	static const char bytes[] = "\0\0\0\0\2{}\0\0\0\0\0\0\0\0\0\7{\"a\":1}";
	static const char *const want[] = { "{}", "", "{\"a\":1}" };

	for (size_t step = 1; step < sizeof(bytes); step++) {
		struct envelope_reader r = ENVELOPE_READER_INIT;
		struct connect_error e = { 0 };
		size_t n = 0;

		for (size_t i = 0; i < sizeof(bytes) - 1;) {
			size_t used = 0;
			int whole = envelope_take(&r, bytes + i, MIN(step, sizeof(bytes) - 1 - i),
						  &used, &e);

			ck_assert_int_ge(whole, 0);
			i += used;
			if (whole == 0)
				continue;
			ck_assert_str_eq(buf_str(&r.message), want[n++]);
			envelope_next(&r);
		}
		ck_assert_uint_eq(n, ARRAY_SIZE(want));
		envelope_reader_done(&r);
	}
}
END_TEST

START_TEST(envelope_broken)
{
	ck_assert_int_eq(read_envelope("", 0, 1, NULL), CONNECT_INVALID_ARGUMENT);
	ck_assert_int_eq(read_envelope("\0\0\0", 3, 3, NULL), CONNECT_INVALID_ARGUMENT);
	ck_assert_int_eq(read_envelope("\0\0\0\0\3{}", 7, 7, NULL), CONNECT_INVALID_ARGUMENT);
	ck_assert_int_eq(read_envelope("\0\0\0\0\2{}x", 8, 8, NULL), CONNECT_INVALID_ARGUMENT);
	ck_assert_int_eq(read_envelope("\0\0\0\0\2{}x", 8, 1, NULL), CONNECT_INVALID_ARGUMENT);
	ck_assert_int_eq(read_envelope("\1\0\0\0\2{}", 7, 7, NULL), CONNECT_INTERNAL);
	ck_assert_int_eq(read_envelope("\2\0\0\0\2{}", 7, 7, NULL), CONNECT_INVALID_ARGUMENT);
	/* 4 MiB is the most; one byte more is refused by the head alone. */
	ck_assert_int_eq(read_envelope("\0\0\x40\0\0", 5, 5, NULL), CONNECT_INVALID_ARGUMENT);
	ck_assert_int_eq(read_envelope("\0\0\x40\0\1", 5, 5, NULL), CONNECT_RESOURCE_EXHAUSTED);
	ck_assert_int_eq(read_envelope("\0\xff\xff\xff\xff", 5, 1, NULL),
			 CONNECT_RESOURCE_EXHAUSTED);
	ck_assert_int_eq(read_envelope("\0\0\0\0\0", 5, 5, NULL), CONNECT_OK);
}
END_TEST

START_TEST(envelope_head_written)
{
	uint8_t head[ENVELOPE_HEAD_SIZE];

	envelope_head(head, ENVELOPE_END, 0x01020304);
	ck_assert_mem_eq(head, "\2\1\2\3\4", 5);
}
END_TEST

START_TEST(codes)
{
	static const struct {
		enum connect_code code;
		const char *name;
		int http;
	} want[] = {
		{ CONNECT_CANCELED, "canceled", 499 },
		{ CONNECT_UNKNOWN, "unknown", 500 },
		{ CONNECT_INVALID_ARGUMENT, "invalid_argument", 400 },
		{ CONNECT_DEADLINE_EXCEEDED, "deadline_exceeded", 504 },
		{ CONNECT_NOT_FOUND, "not_found", 404 },
		{ CONNECT_ALREADY_EXISTS, "already_exists", 409 },
		{ CONNECT_PERMISSION_DENIED, "permission_denied", 403 },
		{ CONNECT_RESOURCE_EXHAUSTED, "resource_exhausted", 429 },
		{ CONNECT_FAILED_PRECONDITION, "failed_precondition", 400 },
		{ CONNECT_ABORTED, "aborted", 409 },
		{ CONNECT_OUT_OF_RANGE, "out_of_range", 400 },
		{ CONNECT_UNIMPLEMENTED, "unimplemented", 501 },
		{ CONNECT_INTERNAL, "internal", 500 },
		{ CONNECT_UNAVAILABLE, "unavailable", 503 },
		{ CONNECT_DATA_LOSS, "data_loss", 500 },
		{ CONNECT_UNAUTHENTICATED, "unauthenticated", 401 },
	};

	ck_assert_uint_eq(ARRAY_SIZE(want), CONNECT_CODE_N - 1);
	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		ck_assert_str_eq(connect_code_name(want[i].code), want[i].name);
		ck_assert_int_eq(connect_code_http(want[i].code), want[i].http);
	}
}
END_TEST

START_TEST(error_first_wins_and_stays_utf8)
{
	struct connect_error e = { 0 };
	json_t *json;
	char text[600];

	ck_assert_int_eq(connect_error_set(&e, CONNECT_NOT_FOUND, "no %s", "x"), -EPROTO);
	ck_assert_int_eq(connect_error_set(&e, CONNECT_INTERNAL, "later"), -EPROTO);
	json = connect_error_json(&e);
	ck_assert_str_eq(json_string_value(json_object_get(json, "code")), "not_found");
	ck_assert_str_eq(json_string_value(json_object_get(json, "message")), "no x");
	json_decref(json);

	/* Two bytes a character, cut in the middle of one. */
	e = (struct connect_error){ 0 };
	for (size_t i = 0; i < sizeof(text) - 1; i++)
		text[i] = i % 2 == 0 ? '\xc3' : '\xa4';
	text[sizeof(text) - 1] = '\0';
	ck_assert_int_eq(connect_error_set(&e, CONNECT_NOT_FOUND, "%s", text), -EPROTO);
	json = connect_error_json(&e);
	ck_assert_ptr_nonnull(json_object_get(json, "message"));
	json_decref(json);
}
END_TEST

static bool parses(const char *text)
{
	struct connect_error e = { 0 };
	json_t *json = NULL;
	int r = connect_message_parse(text, strlen(text), &json, &e);

	ck_assert_int_eq(r, json != NULL ? 0 : -EPROTO);
	ck_assert_int_eq(e.code, json != NULL ? CONNECT_OK : CONNECT_INVALID_ARGUMENT);
	json_decref(json);
	return r == 0;
}

START_TEST(messages)
{
	ck_assert(parses("{}"));
	ck_assert(parses(" {\"a\": [1, 2]} "));
	ck_assert(!parses(""));
	ck_assert(!parses("[]"));
	ck_assert(!parses("7"));
	ck_assert(!parses("{} {}"));
	ck_assert(!parses("{\"a\":1,\"a\":2}"));
	ck_assert(!parses("{\"a\":\"\\u0000\"}"));
	ck_assert(!parses("{\"a\":\"\xff\"}"));
}
END_TEST

static int64_t timeout_of(const char *value)
{
	struct connect_error e = { 0 };
	uint64_t ms = 12345;

	return connect_timeout_parse(value, &ms, &e) < 0 ? -1 : (int64_t)ms;
}

START_TEST(timeouts)
{
	ck_assert_int_eq(timeout_of(NULL), 0);
	ck_assert_int_eq(timeout_of(""), 0);
	ck_assert_int_eq(timeout_of("0"), 0);
	ck_assert_int_eq(timeout_of("60000"), 60000);
	ck_assert_int_eq(timeout_of("9999999999"), 9999999999);
	ck_assert_int_eq(timeout_of("1500.75"), 1500);
	ck_assert_int_eq(timeout_of("10000000000"), -1);
	ck_assert_int_eq(timeout_of("-1"), -1);
	ck_assert_int_eq(timeout_of(" 1"), -1);
	ck_assert_int_eq(timeout_of("1s"), -1);
	ck_assert_int_eq(timeout_of("1.5s"), -1);
	ck_assert_int_eq(timeout_of(".5"), -1);
	ck_assert_uint_eq(connect_keepalive_ms(NULL), 90000);
	ck_assert_uint_eq(connect_keepalive_ms("50"), 50000);
	ck_assert_uint_eq(connect_keepalive_ms("0"), 90000);
	ck_assert_uint_eq(connect_keepalive_ms("x"), 90000);
}
END_TEST

START_TEST(content_types)
{
	ck_assert(connect_content_type_is("application/json", "application/json"));
	ck_assert(connect_content_type_is("Application/JSON; charset=utf-8", "application/json"));
	ck_assert(connect_content_type_is("application/json ;x", "application/json"));
	ck_assert(!connect_content_type_is("application/jsonx", "application/json"));
	ck_assert(!connect_content_type_is("application/connect+json", "application/json"));
	ck_assert(!connect_content_type_is(NULL, "application/json"));
	ck_assert(!connect_content_type_is("", "application/json"));
}
END_TEST

/* The user of a header; "-" when there is none, "!" when it is refused. */
static void assert_user(const char *header, const char *want)
{
	struct connect_error e = { 0 };
	auto_free char *user = NULL;
	int r = connect_basic_user(header, &user, &e);

	ck_assert_int_eq(e.code, r < 0 ? CONNECT_UNAUTHENTICATED : CONNECT_OK);
	ck_assert_str_eq(r < 0 ? "!" : user != NULL ? user : "-", want);
}

START_TEST(basic_users)
{
	assert_user(NULL, "-");
	assert_user("Basic cm9vdDo=", "root");
	assert_user("basic cm9vdDo", "root");
	assert_user("Basic dXNlcjpzZWNyZXQ6eA==", "user"); /* user:secret:x */
	assert_user("Basic Og==", "-");
	assert_user("Basic ", "-");
	assert_user("Bearer cm9vdDo=", "-");
	assert_user("Basic cm9v!!", "!");
	assert_user("Basic cm8AdDo=", "!"); /* a NUL within */
}
END_TEST

START_TEST(base64_both_ways)
{
	static const char *const pairs[][2] = {
		{ "", "" },        { "f", "Zg==" },        { "fo", "Zm8=" },
		{ "foo", "Zm9v" }, { "foob", "Zm9vYg==" }, { "\xfb\xff\xbf", "+/+/" },
	};
	static const char *const bad[] = { "Z", "Zg=",   "Zg===", "Z===",
					   "=", "Zm9v=", "Zm 9v", "Zg==Zg==" };
	char text[16];
	char *bytes;
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		n = base64_encode(pairs[i][0], strlen(pairs[i][0]), text);
		ck_assert_uint_eq(n, strlen(pairs[i][1]));
		ck_assert_mem_eq(text, pairs[i][1], n);
		ck_assert_int_eq(base64_decode(text, n, &bytes, &n), 0);
		ck_assert_str_eq(bytes, pairs[i][0]);
		free(bytes);
	}
	ck_assert_int_eq(base64_decode("-_-_", 4, &bytes, &n), 0);
	ck_assert_mem_eq(bytes, "\xfb\xff\xbf", 3);
	free(bytes);
	ck_assert_int_eq(base64_decode("Zm8", 3, &bytes, &n), 0);
	ck_assert_uint_eq(n, 2);
	free(bytes);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(base64_decode(bad[i], strlen(bad[i]), &bytes, &n), -EINVAL);
}
END_TEST

START_TEST(fields)
{
	json_t *m = json_pack("{s:s, s:i, s:s, s:n, s:b, s:s, s:[s,i]}", "template_id", "t", "pid",
			      7, "size", "8", "tag", "stdin", 0, "data", "aGk=", "args", "a", 1);
	struct connect_error e = { 0 };
	const char *text = "before";
	json_t *args = NULL;
	uint64_t number = 0;
	bool flag = true;
	char *bytes = NULL;
	size_t n = 0;

	ck_assert_int_eq(field_string(m, "tag", &text, &e), 0);
	ck_assert_str_eq(text, "before");
	ck_assert_int_eq(field_string(m, "templateId", &text, &e), 0);
	ck_assert_str_eq(text, "t");
	ck_assert_int_eq(field_u64(m, "pid", 10, &number, &e), 1);
	ck_assert_uint_eq(number, 7);
	ck_assert_int_eq(field_u64(m, "size", 10, &number, &e), 1);
	ck_assert_uint_eq(number, 8);
	ck_assert_int_eq(field_bool(m, "stdin", &flag, &e), 0);
	ck_assert(!flag);
	ck_assert_int_eq(field_bytes(m, "data", &bytes, &n, &e), 1);
	ck_assert_str_eq(bytes, "hi");
	free(bytes);
	ck_assert_int_eq(e.code, CONNECT_OK);

	ck_assert_int_eq(field_u64(m, "size", 7, &number, &e), -EPROTO);
	ck_assert_int_eq(e.code, CONNECT_INVALID_ARGUMENT);
	ck_assert_int_eq(field_string(m, "pid", &text, &e), -EPROTO);
	ck_assert_int_eq(field_bool(m, "pid", &flag, &e), -EPROTO);
	ck_assert_int_eq(field_strings(m, "args", true, &args, &e), -EPROTO);
	ck_assert_int_eq(field_object(m, "args", &args, &e), -EPROTO);
	ck_assert_int_eq(field_bytes(m, "pid", &bytes, &n, &e), -EPROTO);
	json_decref(m);
}
END_TEST

START_TEST(signal_names)
{
	char text[SIGNAL_TEXT_SIZE];

	ck_assert_int_eq(signal_parse("SIGNAL_SIGTERM"), SIGTERM);
	ck_assert_int_eq(signal_parse("SIGNAL_SIGKILL"), SIGKILL);
	ck_assert_int_eq(signal_parse("SIGWINCH"), SIGWINCH);
	ck_assert_int_eq(signal_parse("SIGNAL_UNSPECIFIED"), -EINVAL);
	ck_assert_int_eq(signal_parse("TERM"), -EINVAL);
	ck_assert_int_eq(signal_parse("SIG"), -EINVAL);
	signal_text(SIGKILL, false, text);
	ck_assert_str_eq(text, "signal: killed");
	signal_text(SIGSEGV, true, text);
	ck_assert_str_eq(text, "signal: segmentation fault (core dumped)");
	signal_text(34, false, text);
	ck_assert_str_eq(text, "signal: signal 34");
	for (int i = 1; i < 32; i++) {
		signal_text(i, false, text);
		ck_assert_ptr_null(strstr(text, "(null)"));
	}
}
END_TEST

/* Reads once and checks what comes; "" = nothing. */
static void assert_read(const struct ring *r, struct ring_cursor *c, size_t max, unsigned stream,
			const char *want)
{
	struct ring_piece got = { 0 };
	char out[64];
	bool any = ring_read(r, c, out, max, &got);

	ck_assert_int_eq(any, want[0] != '\0');
	ck_assert_uint_eq(got.n, strlen(want));
	ck_assert_mem_eq(out, want, got.n);
	if (any)
		ck_assert_uint_eq(got.stream, stream);
	if (any)
		ck_assert_uint_eq(got.position + got.n, c->pos[stream]);
}

START_TEST(ring_keeps_order_and_streams)
{
	const uint64_t some[RING_STREAMS] = { 4, 1 };
	struct ring r = { 0 };
	struct ring_cursor c = { 0 };
	struct ring_cursor other = { 0 };

	assert_read(&r, &c, 64, 0, "");
	ring_put(&r, 0, "one", 3);
	ring_put(&r, 0, "two", 3);
	ring_put(&r, 1, "err", 3);
	ring_put(&r, 0, "", 0);
	ring_put(&r, 0, "three", 5);
	assert_read(&r, &c, 4, 0, "onet");
	ck_assert(ring_cursor_before(&other, &c));
	assert_read(&r, &other, 64, 0, "onetwo");
	ck_assert(ring_cursor_before(&c, &other));
	assert_read(&r, &c, 64, 0, "wo");
	assert_read(&r, &c, 64, 1, "err");
	assert_read(&r, &c, 64, 0, "three");
	ck_assert(ring_at_end(&r, &c) && !ring_at_end(&r, &other));
	assert_read(&r, &c, 64, 0, "");
	/* The newest record grows under a cursor that has read all of it. */
	ring_put(&r, 0, "four", 4);
	assert_read(&r, &c, 64, 0, "four");
	ring_put(&r, 2, "tty", 3);
	assert_read(&r, &c, 64, 2, "tty");

	other = ring_seek(&r, some);
	assert_read(&r, &other, 64, 0, "wo");
	assert_read(&r, &other, 64, 1, "rr");
	assert_read(&r, &other, 64, 0, "threefour");
	ck_assert_uint_eq(ring_lost(&r, &other), 0);

	/* Positions stay when the bytes go. */
	ring_done(&r);
	ck_assert(ring_at_end(&r, &c) && ring_at_end(&r, &other));
	ck_assert_uint_eq(ring_lost(&r, &other), 3);
	ring_put(&r, 0, "five", 4);
	assert_read(&r, &other, 64, 0, "five");
	ck_assert_uint_eq(other.pos[0], 19);
	ring_done(&r);
}
END_TEST

enum { MODEL_MAX = 8 << 20 };

/* All bytes that were put, in their order. */
struct model {
	uint8_t *bytes;
	uint8_t *streams;
	uint64_t *positions; /* in its stream */
	size_t n;
	uint64_t end[RING_STREAMS];
};

static void model_put(struct model *m, struct ring *r, size_t n)
{
	uint8_t stream = (uint8_t)(rand() % RING_STREAMS);

	for (size_t i = 0; i < n; i++) {
		m->bytes[m->n + i] = (uint8_t)rand();
		m->streams[m->n + i] = stream;
		m->positions[m->n + i] = m->end[stream]++;
	}
	ring_put(r, stream, m->bytes + m->n, n);
	m->n += n;
}

/* Checks a piece against the model, in which the reader has come to @at. Return: how far now. */
static size_t model_check(const struct model *m, const struct ring_piece *got, const uint8_t *out,
			  size_t at)
{
	while (at < m->n && (m->streams[at] != got->stream || m->positions[at] < got->position))
		at++; /* dropped before it was read */
	for (size_t i = 0; i < got->n; i++) {
		ck_assert_uint_lt(at, m->n);
		ck_assert_uint_eq(m->bytes[at + i], out[i]);
		ck_assert_uint_eq(m->streams[at + i], got->stream);
		ck_assert_uint_eq(m->positions[at + i], got->position + i);
	}
	return at + got->n;
}

/* Random puts, and readers that are slow, fast, and start anew, against a plain list. */
START_TEST(ring_against_a_model)
{
	struct model m = { .bytes = malloc(MODEL_MAX),
			   .streams = malloc(MODEL_MAX),
			   .positions = malloc(MODEL_MAX * sizeof(uint64_t)) };
	uint8_t *out = malloc(RING_MAX_BYTES);
	struct ring r = { 0 };
	struct ring_cursor cursors[3] = { 0 };
	size_t at[3] = { 0 };
	uint64_t lost = 0;

	srand(7);
	while (m.n < MODEL_MAX - RING_MAX_BYTES * 2) {
		unsigned i = (unsigned)rand() % 3;
		struct ring_piece got;

		model_put(&m, &r,
			  rand() % 20 == 0 ? (size_t)rand() % (RING_MAX_BYTES * 3 / 2)
					   : (size_t)rand() % 3000);
		ck_assert_uint_le(r.tail - r.head, RING_MAX_BYTES);
		ck_assert_mem_eq(r.end, m.end, sizeof(m.end));
		if (rand() % 500 == 0)
			ring_done(&r);
		if (rand() % 50 == 0) {
			cursors[i] = ring_seek(&r, r.start);
			at[i] = 0;
		}
		lost += ring_lost(&r, &cursors[i]);
		for (int k = rand() % 4; k > 0; k--) {
			if (ring_read(&r, &cursors[i], out, (size_t)rand() % 5000 + 1, &got))
				at[i] = model_check(&m, &got, out, at[i]);
		}
	}
	ck_assert_uint_gt(lost, 0);
	ring_done(&r);
	free(m.bytes);
	free(m.streams);
	free(m.positions);
	free(out);
}
END_TEST

START_TEST(ring_keeps_the_last_mebibyte)
{
	uint8_t *chunk = calloc(1, RING_MAX_BYTES);
	struct ring r = { 0 };
	struct ring_cursor c = { 0 };
	struct ring_piece got = { 0 };

	for (unsigned i = 0; i < 10; i++) {
		memset(chunk, (int)i, RING_MAX_BYTES / 2);
		ring_put(&r, 0, chunk, RING_MAX_BYTES / 2);
	}
	ck_assert(ring_read(&r, &c, chunk, RING_MAX_BYTES, &got));
	ck_assert_uint_gt(got.n, RING_MAX_BYTES - 100);
	ck_assert_uint_eq(chunk[0], 8);
	ck_assert_uint_eq(chunk[got.n - 1], 9);
	ck_assert_uint_eq(got.position, 5 * (uint64_t)RING_MAX_BYTES - got.n);
	ring_done(&r);
	free(chunk);
}
END_TEST

START_TEST(rings_share_a_budget)
{
	static const uint8_t chunk[RING_MAX_BYTES / 2];
	struct ring_budget budget = { .max_bytes = 3 << 20 };
	struct ring rings[8] = { 0 };

	for (size_t i = 0; i < ARRAY_SIZE(rings); i++) {
		rings[i].budget = &budget;
		for (int k = 0; k < 4; k++)
			ring_put(&rings[i], 0, chunk, MIN(ring_most(&rings[i]), sizeof(chunk)));
		ck_assert_uint_ge(rings[i].tail - rings[i].head, 100); /* some is always there */
	}
	ck_assert(!ring_is_short(&rings[0], 100));
	ck_assert(ring_is_short(&rings[7], 100000));
	/* The first bytes are beyond it, or the last processes would have nothing. */
	ck_assert_uint_le(budget.used_bytes, budget.max_bytes + 8 * 1024);
	ring_done(&rings[0]);
	ck_assert(!ring_is_short(&rings[7], 100000));
	for (size_t i = 0; i < ARRAY_SIZE(rings); i++)
		ring_done(&rings[i]);
	ck_assert_uint_eq(budget.used_bytes, 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *s = suite_create("agent_connect");
	TCase *tc = tcase_create("all");

	tcase_add_test(tc, envelope_whole_in_any_pieces);
	tcase_add_test(tc, envelopes_one_after_the_other);
	tcase_add_test(tc, envelope_broken);
	tcase_add_test(tc, envelope_head_written);
	tcase_add_test(tc, codes);
	tcase_add_test(tc, error_first_wins_and_stays_utf8);
	tcase_add_test(tc, messages);
	tcase_add_test(tc, timeouts);
	tcase_add_test(tc, content_types);
	tcase_add_test(tc, basic_users);
	tcase_add_test(tc, base64_both_ways);
	tcase_add_test(tc, fields);
	tcase_add_test(tc, signal_names);
	tcase_add_test(tc, ring_keeps_order_and_streams);
	tcase_add_test(tc, ring_against_a_model);
	tcase_add_test(tc, ring_keeps_the_last_mebibyte);
	tcase_add_test(tc, rings_share_a_budget);
	suite_add_tcase(s, tc);
	return s;
}

int main(void)
{
	SRunner *runner = srunner_create(make_suite());
	int failed;

	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
