/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of src/base that only compute. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/id.h"
#include "base/limits.h"
#include "base/parse.h"
#include "base/sha256.h"
#include "base/str.h"
#include "base/vec.h"

#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

VEC_DEFINE(ints, int)

/* err */

START_TEST(test_err_first_wins)
{
	struct err e = { 0 };

	ck_assert(!err_is_set(&e));
	ck_assert_int_eq(err_set(&e, ERR_NOT_FOUND, "sandbox %s", "x"), -ENOENT);
	ck_assert_int_eq(err_set(&e, ERR_CONFLICT, "other"), -EBUSY);
	ck_assert_int_eq(err_errno(&e, EPERM, "other"), -EPERM);
	ck_assert_int_eq(e.kind, ERR_NOT_FOUND);
	ck_assert_int_eq(e.code, 0);
	ck_assert_str_eq(e.msg, "sandbox x");
}
END_TEST

START_TEST(test_err_errno)
{
	static const struct {
		int code;
		enum err_kind kind;
	} cases[] = {
		{ ENOSPC, ERR_EXHAUSTED }, { ENOMEM, ERR_EXHAUSTED },  { EDQUOT, ERR_EXHAUSTED },
		{ EMFILE, ERR_EXHAUSTED }, { ETIMEDOUT, ERR_TIMEOUT }, { ECANCELED, ERR_CANCELLED },
		{ ENOENT, ERR_SYSTEM },    { EPERM, ERR_SYSTEM },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct err e = { 0 };

		ck_assert_int_eq(err_errno(&e, cases[i].code, "open %s", "f"), -cases[i].code);
		ck_assert_int_eq(e.kind, cases[i].kind);
		ck_assert_int_eq(e.code, cases[i].code);
		ck_assert(str_starts(e.msg, "open f: "));
		ck_assert(str_ends(e.msg, strerror(cases[i].code)));
	}
}
END_TEST

START_TEST(test_err_wrap)
{
	struct err e = { 0 };
	char big[2 * sizeof(e.msg)];

	err_errno(&e, ENOENT, "open f");
	ck_assert_int_eq(err_wrap(&e, "resume %d", 7), -ENOENT);
	ck_assert_str_eq(e.msg, "resume 7: open f: No such file or directory");
	ck_assert_int_eq(e.kind, ERR_SYSTEM);
	memset(big, 'b', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	ck_assert_int_eq(err_wrap(&e, "%s", big), -ENOENT); /* cut, never past the end */
	ck_assert_uint_eq(strlen(e.msg), sizeof(e.msg) - 1);
	e = (struct err){ 0 };
	err_errno(&e, ENOENT, "%s", big);
	ck_assert_uint_eq(strlen(e.msg), sizeof(e.msg) - 1);
	ck_assert_int_lt(err_wrap(NULL, "x"), 0);
	ck_assert_int_eq(err_set(NULL, ERR_INVALID, "x"), -EINVAL);
	ck_assert_int_eq(err_errno(NULL, EPERM, "x"), -EPERM);
}
END_TEST

START_TEST(test_err_kinds)
{
	for (unsigned i = 0; i < ERR_KIND_N; i++) {
		ck_assert_ptr_nonnull(err_kind_name((enum err_kind)i));
		ck_assert_int_ge(err_kind_http((enum err_kind)i), 200);
		ck_assert_int_lt(err_set(NULL, (enum err_kind)i, "x"), 0);
	}
	ck_assert_str_eq(err_kind_name(ERR_NOT_FOUND), "not_found");
	ck_assert_int_eq(err_kind_http(ERR_CONFLICT), 409);
}
END_TEST

/* buf */

START_TEST(test_buf_bounds)
{
	auto_buf b = BUF_INIT(1000);
	char *room;

	ck_assert_str_eq(buf_str(&b), "");
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(buf_append(&b, "0123456789", 10), 0);
	ck_assert_uint_eq(buf_room(&b), 0);
	ck_assert_int_eq(buf_append(&b, "x", 1), -EMSGSIZE);
	ck_assert_int_eq(buf_puts(&b, "x"), -EMSGSIZE);
	ck_assert_int_eq(buf_printf(&b, "%d", 1), -EMSGSIZE);
	ck_assert_int_eq(buf_reserve(&b, SIZE_MAX, &room), -EMSGSIZE);
	ck_assert_uint_eq(b.len, 1000);
	ck_assert_uint_eq(strlen(buf_str(&b)), 1000);
	ck_assert_uint_le(b.cap, 1001);
	buf_consume(&b, 995);
	ck_assert_str_eq(buf_str(&b), "56789");
	ck_assert_int_eq(buf_printf(&b, "%s", "abc"), 0);
	ck_assert_str_eq(buf_str(&b), "56789abc");
	buf_clear(&b);
	ck_assert_str_eq(buf_str(&b), "");
}
END_TEST

/* Appends and consumes at random, beside a model of what must be in it. */
START_TEST(test_buf_model)
{
	enum { MODEL_MAX = 700, ROUNDS = 20000 };
	auto_buf b = BUF_INIT(MODEL_MAX);
	char model[MODEL_MAX];
	size_t n = 0;
	unsigned seed = 1;

	for (unsigned round = 0; round < ROUNDS; round++) {
		size_t k = (size_t)rand_r(&seed) % 300;

		if (rand_r(&seed) % 2 == 0) {
			char chunk[300];

			memset(chunk, 'a' + (int)(round % 26), k);
			ck_assert_int_eq(buf_append(&b, chunk, k),
					 n + k > MODEL_MAX ? -EMSGSIZE : 0);
			if (n + k <= MODEL_MAX) {
				memcpy(model + n, chunk, k);
				n += k;
			}
		} else {
			k = MIN(k, n);
			buf_consume(&b, k);
			memmove(model, model + k, n - k);
			n -= k;
		}
		ck_assert_uint_eq(b.len, n);
		ck_assert(n == 0 || memcmp(buf_head(&b), model, n) == 0);
		ck_assert(b.off + b.len <= b.cap && b.cap <= MODEL_MAX + 1);
	}
}
END_TEST

START_TEST(test_buf_steal)
{
	auto_buf b = BUF_INIT(100);
	auto_free char *none = buf_steal(&b);
	auto_free char *some = NULL;
	char *room;

	ck_assert_str_eq(none, "");
	ck_assert_int_eq(buf_puts(&b, "dropped kept"), 0);
	buf_consume(&b, 8);
	some = buf_steal(&b);
	ck_assert_str_eq(some, "kept");
	ck_assert_uint_eq(b.len, 0);
	ck_assert_uint_eq(b.max, 100);
	ck_assert_int_eq(buf_reserve(&b, 3, &room), 0);
	memcpy(room, "new", 3);
	buf_commit(&b, 3);
	ck_assert_str_eq(buf_str(&b), "new");
	buf_done(&b);
	buf_done(&b);
	ck_assert_int_eq(buf_append(&b, NULL, 0), 0);
}
END_TEST

/* str */

START_TEST(test_str)
{
	char out[5] = "old";
	auto_free char *s = str_printf("%s-%d", "a", 7);
	auto_free int *zeros = xcalloc(4, sizeof(*zeros));

	ck_assert_str_eq(s, "a-7");
	ck_assert_int_eq(zeros[3], 0);
	ck_assert(str_starts("abc", "ab") && str_starts("abc", "") && !str_starts("ab", "abc"));
	ck_assert(str_ends("abc", "bc") && str_ends("abc", "") && !str_ends("bc", "abc"));
	ck_assert_int_eq(str_fit(out, sizeof(out), "%d", 1234), 0);
	ck_assert_str_eq(out, "1234");
	ck_assert_int_eq(str_fit(out, sizeof(out), "%d", 12345), -ENAMETOOLONG);
	ck_assert_str_eq(out, "");
	str_copy(out, sizeof(out), "123456");
	ck_assert_str_eq(out, "1234");
	str_copy(out, 1, "x");
	ck_assert_str_eq(out, "");
}
END_TEST

/* vec */

START_TEST(test_vec)
{
	struct ints v = { 0 };
	int expected = 0;

	vec_foreach (item, &v)
		ck_abort_msg("an empty vec has no %d", *item);
	for (int i = 0; i < 100; i++)
		ints_push(&v, i);
	vec_foreach (item, &v)
		ck_assert_int_eq(*item, expected++);
	ck_assert_int_eq(expected, 100);
	ints_done(&v);
	ck_assert_uint_eq(v.n, 0);
	ints_done(&v);
}
END_TEST

/* clock */

START_TEST(test_clock)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} cases[] = {
		{ 0, "1970-01-01T00:00:00.000Z" },
		{ 1767323045006, "2026-01-02T03:04:05.006Z" },
		{ 951782399999, "2000-02-28T23:59:59.999Z" },
	};
	char out[CLOCK_RFC3339_SIZE];
	uint64_t before = clock_now_ns();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		clock_rfc3339(cases[i].ms, out);
		ck_assert_str_eq(out, cases[i].text);
	}
	clock_rfc3339(UINT64_MAX, out);
	ck_assert_uint_lt(strlen(out), sizeof(out));
	ck_assert_uint_ge(clock_now_ns(), before);
	ck_assert_uint_gt(clock_realtime_ms(), 1700000000000);
}
END_TEST

START_TEST(test_clock_parse)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {
		{ "1970-01-01T00:00:00Z", 0 },
		{ "2026-01-02T03:04:05.006Z", 1767323045006 },
		{ "2026-01-02T03:04:05.006789+00:00", 1767323045006 },
		{ "2026-01-02T05:34:05.5+02:30", 1767323045500 },
		{ "2026-01-02T01:04:05-02:00", 1767323045000 },
		{ "1969-12-31T23:59:59Z", 0 },
	};
	static const char *const bad[] = {
		"",
		"now",
		"2026-01-02",
		"2026-01-02T03:04:05",
		"2026-01-02T03:04:05.Z",
		"2026-01-02T03:04:05+02:+3",
		"2026-01-02T03:04:05+02: 3",
		"2026-01-02T03:04:05+2:030",
		"2026-01-02T03:04:05+02:60",
		"2026-01-02T03:04:05+02:300",
		"2026-01-02T03:04:05Zx",
		"2026-01-02T03:04:05+2:30",
		"2026-13-02T03:04:05Z",
		"2026-01-02T03:04:05+0a:00",
		"2026-01-02T03:04:05+02:30:00",
		" 2026-01-02T03:04:05Z",
	};
	uint64_t ms = 0;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		ck_assert_int_eq(clock_parse_rfc3339(good[i].text, &ms), 0);
		ck_assert_uint_eq(ms, good[i].ms);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(clock_parse_rfc3339(bad[i], &ms), -EINVAL);
}
END_TEST

/* id */

START_TEST(test_id)
{
	struct sandbox_id a = id_new();
	struct sandbox_id b = id_new();
	struct sandbox_id back;

	ck_assert_uint_eq(strlen(a.s), SANDBOX_ID_LEN);
	ck_assert_int_eq(a.s[0], 'i');
	ck_assert(!id_equal(&a, &b));
	ck_assert_int_eq(id_parse(a.s, &back), 0);
	ck_assert(id_equal(&a, &back));
	ck_assert_int_eq(id_parse("", &back), -EINVAL);
	ck_assert_int_eq(id_parse("abcdefghij012345678", &back), -EINVAL);
	ck_assert_int_eq(id_parse("abcdefghij01234567890", &back), -EINVAL);
	ck_assert_int_eq(id_parse("Abcdefghij0123456789", &back), -EINVAL);
	ck_assert_int_eq(id_parse("../../../etc/passwd0", &back), -EINVAL);
	ck_assert_int_eq(id_parse("abcdefghi\n0123456789", &back), -EINVAL);
	ck_assert(id_equal(&a, &back)); /* not written on failure */
}
END_TEST

START_TEST(test_tag_and_hex)
{
	struct instance_tag tag = tag_new();
	struct instance_tag back;
	char hex[33];

	ck_assert_uint_eq(strlen(tag.s), TAG_LEN);
	ck_assert_int_eq(tag_parse(tag.s, &back), 0);
	ck_assert_str_eq(back.s, tag.s);
	ck_assert_int_eq(tag_parse("abc", &back), -EINVAL);
	ck_assert_int_eq(tag_parse("abcde", &back), -EINVAL);
	ck_assert_int_eq(tag_parse("ab-c", &back), -EINVAL);
	random_hex(hex, sizeof(hex) - 1);
	ck_assert_uint_eq(strspn(hex, "0123456789abcdef"), sizeof(hex) - 1);
	ck_assert_uint_eq(strlen(hex), sizeof(hex) - 1);
}
END_TEST

/* What the kernel gives is drawn many bytes at a time: the next ones are others. */
START_TEST(test_hex_does_not_repeat)
{
	enum { PART = 32, PARTS = 16 };
	char hex[PART * PARTS + 1];

	random_hex(hex, PART * PARTS);
	ck_assert_uint_eq(strspn(hex, "0123456789abcdef"), PART * PARTS);
	for (size_t i = 1; i < PARTS; i++)
		for (size_t k = 0; k < i; k++)
			ck_assert_mem_ne(hex + i * PART, hex + k * PART, PART);
}
END_TEST

START_TEST(test_name_valid)
{
	static const char longest[] =
		"a23456789012345678901234567890123456789012345678901234567890123";
	char too_long[sizeof(longest) + 1];

	static_assert(sizeof(longest) - 1 == NAME_MAX_LEN, "the longest name");
	snprintf(too_long, sizeof(too_long), "%sx", longest);
	ck_assert(name_valid("a") && name_valid("0") && name_valid("web-1.test_2"));
	ck_assert(name_valid(longest) && !name_valid(too_long));
	ck_assert(!name_valid("") && !name_valid(".") && !name_valid("..") && !name_valid("-x"));
	ck_assert(!name_valid("A") && !name_valid("a/b") && !name_valid("a b") &&
		  !name_valid("a\n"));
}
END_TEST

START_TEST(test_name_check)
{
	struct err e = { 0 };

	ck_assert_int_eq(name_check("template", "a", &e), 0);
	ck_assert(!err_is_set(&e));
	ck_assert_int_lt(name_check("template", "No Name", &e), 0);
	ck_assert_int_eq(e.kind, ERR_INVALID);
	ck_assert_ptr_nonnull(strstr(e.msg, "\"No Name\" can be no template's name"));
	ck_assert_ptr_nonnull(strstr(e.msg, "1 to 63 characters"));
}
END_TEST

/* parse */

START_TEST(test_parse_u64)
{
	uint64_t v = 77;

	ck_assert_int_eq(parse_u64("0", 0, 9, &v), 0);
	ck_assert_uint_eq(v, 0);
	ck_assert_int_eq(parse_u64("18446744073709551615", 0, UINT64_MAX, &v), 0);
	ck_assert_uint_eq(v, UINT64_MAX);
	ck_assert_int_eq(parse_u64("18446744073709551616", 0, UINT64_MAX, &v), -ERANGE);
	ck_assert_int_eq(parse_u64("99999999999999999999999", 0, UINT64_MAX, &v), -ERANGE);
	ck_assert_int_eq(parse_u64("4", 5, 9, &v), -ERANGE);
	ck_assert_int_eq(parse_u64("10", 5, 9, &v), -ERANGE);
	ck_assert_int_eq(parse_u64("", 0, 9, &v), -EINVAL);
	ck_assert_int_eq(parse_u64("-1", 0, 9, &v), -EINVAL);
	ck_assert_int_eq(parse_u64("+1", 0, 9, &v), -EINVAL);
	ck_assert_int_eq(parse_u64(" 1", 0, 9, &v), -EINVAL);
	ck_assert_int_eq(parse_u64("1 ", 0, 9, &v), -EINVAL);
	ck_assert_int_eq(parse_u64("0x1", 0, 9, &v), -EINVAL);
	ck_assert_uint_eq(v, UINT64_MAX); /* not written on failure */
}
END_TEST

START_TEST(test_parse_hex)
{
	static const char *const bad[] = { "", "g", "0x1", "-1", "+1", " 1", "1 ", "123456789" };
	uint32_t v = 77;

	ck_assert_int_eq(parse_hex_u32("0", &v), 0);
	ck_assert_uint_eq(v, 0);
	ck_assert_int_eq(parse_hex_u32("fFfFfFfE", &v), 0);
	ck_assert_uint_eq(v, UINT32_MAX - 1);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(parse_hex_u32(bad[i], &v), -EINVAL);
	ck_assert_uint_eq(v, UINT32_MAX - 1); /* not written on failure */
}
END_TEST

START_TEST(test_parse_size)
{
	static const struct {
		const char *text;
		uint64_t mib;
	} good[] = {
		{ "512", 512 },   { "512M", 512 },   { "512MiB", 512 },   { "2G", 2048 },
		{ "2GiB", 2048 }, { "1T", 1 << 20 }, { "1TiB", 1 << 20 }, { "0", 0 },
	};
	static const char *const bad[] = { "", "M", "1K", "1g", "1 G", "1GB", "-1G", "1.5G", "G1" };
	uint64_t mib;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		ck_assert_int_eq(parse_size_mib(good[i].text, &mib), 0);
		ck_assert_uint_eq(mib, good[i].mib);
	}
	mib = 77;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_msg(parse_size_mib(bad[i], &mib) == -EINVAL, "%s", bad[i]);
	ck_assert_int_eq(parse_size_mib("18446744073709551615T", &mib), -ERANGE);
	ck_assert_uint_eq(mib, 77); /* not written on failure */
	ck_assert(parse_duration_s("90", &mib) == 0 && mib == 90);
	ck_assert(parse_duration_s("90s", &mib) == 0 && mib == 90);
	ck_assert(parse_duration_s("15m", &mib) == 0 && mib == 900);
	ck_assert(parse_duration_s("2h", &mib) == 0 && mib == 7200);
	ck_assert(parse_duration_s("1d", &mib) == 0 && mib == 86400);
	ck_assert_int_eq(parse_duration_s("0", &mib), -ERANGE);
	ck_assert_int_eq(parse_duration_s("18446744073709551615d", &mib), -ERANGE);
	ck_assert_int_eq(parse_duration_s("1M", &mib), -EINVAL);
	ck_assert_int_eq(parse_duration_s("m", &mib), -EINVAL);
}
END_TEST

START_TEST(test_parse_restart)
{
	uint64_t n = 77;

	ck_assert_int_eq(parse_restart("no", &n), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(parse_restart("on-failure", &n), 0);
	ck_assert_uint_eq(n, RESTARTS_USUAL);
	ck_assert_int_eq(parse_restart("on-failure:3", &n), 0);
	ck_assert_uint_eq(n, 3);
	ck_assert_int_eq(parse_restart("on-failure:1000001", &n), -ERANGE);
	ck_assert_int_eq(parse_restart("on-failure:0", &n), -ERANGE);
	ck_assert_int_eq(parse_restart("on-failure:", &n), -EINVAL);
	ck_assert_int_eq(parse_restart("on-failures", &n), -EINVAL);
	ck_assert_int_eq(parse_restart("on-failure3", &n), -EINVAL);
	ck_assert_int_eq(parse_restart("always", &n), -EINVAL);
	ck_assert_int_eq(parse_restart("", &n), -EINVAL);
	ck_assert_uint_eq(n, 3);
}
END_TEST

START_TEST(test_parse_keyed)
{
	static const char events[] = "low 0\noom 7\noom_kill 3\noom_group_kill 1\n";
	uint64_t n = 77;

	ck_assert_int_eq(parse_keyed(events, "oom_kill", &n), 0);
	ck_assert_uint_eq(n, 3);
	ck_assert_int_eq(parse_keyed(events, "low", &n), 0);
	ck_assert_uint_eq(n, 0);
	ck_assert_int_eq(parse_keyed("MemTotal:       16 kB\n", "MemTotal:", &n), 0);
	ck_assert_uint_eq(n, 16);
	ck_assert_int_eq(parse_keyed("\n\na 18446744073709551615", "a", &n), 0);
	ck_assert_uint_eq(n, UINT64_MAX);
	ck_assert_int_eq(parse_keyed("a 18446744073709551616", "a", &n), -ERANGE);
	ck_assert_int_eq(parse_keyed(events, "kill", &n), -ENOENT);
	ck_assert_int_eq(parse_keyed(events, "oom_kil", &n), -ENOENT);
	ck_assert_int_eq(parse_keyed("", "a", &n), -ENOENT);
	ck_assert_int_eq(parse_keyed("a", "a", &n), -ENOENT);
	ck_assert_int_eq(parse_keyed("a \n7", "a", &n), -EINVAL);
	ck_assert_int_eq(parse_keyed("a -7", "a", &n), -EINVAL);
	ck_assert_int_eq(parse_keyed("a 7k", "a", &n), -EINVAL);
	ck_assert_uint_eq(n, UINT64_MAX);
}
END_TEST

START_TEST(test_parse_bool)
{
	static const char *const yes[] = { "true", "yes", "on", "1" };
	static const char *const no[] = { "false", "no", "off", "0" };
	bool v;

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		v = false;
		ck_assert_int_eq(parse_bool(yes[i], &v), 0);
		ck_assert(v);
		ck_assert_int_eq(parse_bool(no[i], &v), 0);
		ck_assert(!v);
	}
	ck_assert_int_eq(parse_bool("TRUE", &v), -EINVAL);
	ck_assert_int_eq(parse_bool("", &v), -EINVAL);
}
END_TEST

/* sha256 */

/* NIST's examples, and that a copy goes on by itself. */
/* RFC 4231, cases 1, 2 and 6 */
START_TEST(test_hmac)
{
	char long_key[131];
	const struct {
		const char *key;
		size_t n;
		const char *text;
		const char *want;
	} cases[] = {
		{ "\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b"
		  "\x0b",
		  20, "Hi There",
		  "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
		{ "Jefe", 4, "what do ya want for nothing?",
		  "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
		{ long_key, sizeof(long_key),
		  "Test Using Larger Than Block-Size Key - Hash Key First",
		  "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
	};

	memset(long_key, 0xaa, sizeof(long_key));
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct hmac hmac;
		char hex[SHA256_HEX_SIZE];

		hmac_init(&hmac, cases[i].key, cases[i].n);
		hmac_add(&hmac, cases[i].text, 3);
		hmac_add(&hmac, cases[i].text + 3, strlen(cases[i].text) - 3);
		hmac_hex(&hmac, hex);
		ck_assert_str_eq(hex, cases[i].want);
	}
}
END_TEST

START_TEST(test_sha256)
{
	static const struct {
		const char *text;
		const char *hex;
	} cases[] = {
		{ "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
		{ "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
		{ "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
		  "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t half = strlen(cases[i].text) / 2;
		char hex[SHA256_HEX_SIZE];
		struct sha256 sha;
		struct sha256 copy;

		sha256_init(&sha);
		sha256_add(&sha, cases[i].text, half);
		copy = sha;
		sha256_add(&sha, "other", 5);
		sha256_add(&copy, cases[i].text + half, strlen(cases[i].text) - half);
		sha256_hex(&copy, hex);
		ck_assert_str_eq(hex, cases[i].hex);
		sha256_hex(&sha, hex);
		ck_assert_str_ne(hex, cases[i].hex);
	}
	ck_assert(secret_equal("secret", "secret", 6));
	ck_assert(!secret_equal("secret", "secreT", 6));
	ck_assert(secret_equal("a", "b", 0));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base");
	TCase *tc = tcase_create("base");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(tc, test_err_first_wins);
	tcase_add_test(tc, test_err_errno);
	tcase_add_test(tc, test_err_wrap);
	tcase_add_test(tc, test_err_kinds);
	tcase_add_test(tc, test_buf_bounds);
	tcase_add_test(tc, test_buf_model);
	tcase_add_test(tc, test_buf_steal);
	tcase_add_test(tc, test_str);
	tcase_add_test(tc, test_vec);
	tcase_add_test(tc, test_clock);
	tcase_add_test(tc, test_sha256);
	tcase_add_test(tc, test_hmac);
	tcase_add_test(tc, test_clock_parse);
	tcase_add_test(tc, test_id);
	tcase_add_test(tc, test_tag_and_hex);
	tcase_add_test(tc, test_hex_does_not_repeat);
	tcase_add_test(tc, test_name_valid);
	tcase_add_test(tc, test_name_check);
	tcase_add_test(tc, test_parse_u64);
	tcase_add_test(tc, test_parse_hex);
	tcase_add_test(tc, test_parse_size);
	tcase_add_test(tc, test_parse_restart);
	tcase_add_test(tc, test_parse_keyed);
	tcase_add_test(tc, test_parse_bool);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
