/* SPDX-License-Identifier: Apache-2.0 */
/* src/base, file by file. */
#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/id.h"
#include "base/log.h"
#include "base/op.h"
#include "base/parse.h"
#include "base/str.h"
#include "base/vec.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

VEC_DEFINE(ints, int)

static char dir[] = "/tmp/viv-base-XXXXXX";
static int dir_fd = -1;

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dir_fd, 0);
}

static void teardown(void)
{
	fd_close(&dir_fd);
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
}

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

/* fd */

START_TEST(test_fd)
{
	int ends[2];
	int moved;
	char text[8] = "";

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_eq(fd_write_all(ends[1], "abcdef", 6), 0);
	ck_assert_int_eq(fd_read_full(ends[0], text, 4), 4);
	ck_assert_int_eq(fd_set_nonblock(ends[0], true), 0);
	ck_assert_int_eq(fd_read_full(ends[0], text, 4), -EAGAIN);
	ck_assert_int_eq(fd_set_nonblock(ends[0], false), 0);
	ck_assert_int_eq(fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
	ck_assert_int_eq(fd_set_cloexec(ends[1], false), 0);
	ck_assert_int_eq(fcntl(ends[1], F_GETFD), 0);
	ck_assert_int_eq(fd_set_cloexec(ends[1], true), 0);
	ck_assert_int_eq(fcntl(ends[1], F_GETFD), FD_CLOEXEC);

	ck_assert_int_eq(fd_write_all(ends[1], "xy", 2), 0);
	moved = take_fd(&ends[1]);
	ck_assert_int_eq(ends[1], -1);
	errno = ERANGE;
	fd_close(&moved);
	fd_close(&moved);
	ck_assert_int_eq(errno, ERANGE);
	ck_assert_int_eq(moved, -1);
	ck_assert_int_eq(fd_read_full(ends[0], text, sizeof(text)), 2); /* to the end */
	ck_assert_int_eq(fd_set_nonblock(-1, true), -EBADF);
	fd_close(&ends[0]);
}
END_TEST

/* file */

START_TEST(test_file_read)
{
	static char large[20000];
	auto_buf small = BUF_INIT(sizeof(large) - 1);
	auto_buf exact = BUF_INIT(sizeof(large));

	memset(large, 'z', sizeof(large));
	ck_assert_int_eq(file_write_atomic_at(dir_fd, "f", large, sizeof(large), 0600), 0);
	ck_assert_int_eq(file_read_at(dir_fd, "f", &exact), 0);
	ck_assert_uint_eq(exact.len, sizeof(large));
	ck_assert_int_eq(memcmp(buf_head(&exact), large, sizeof(large)), 0);
	ck_assert_int_eq(file_read_at(dir_fd, "f", &small), -EMSGSIZE);
	ck_assert_int_eq(file_read_at(dir_fd, "none", &small), -ENOENT);
	ck_assert_int_eq(file_read_at(dir_fd, ".", &small), -EISDIR);
}
END_TEST

START_TEST(test_file_write_atomic)
{
	auto_buf b = BUF_INIT(100);
	char outside[sizeof(dir) + 16];
	struct stat st;

	/* What a crash left is neither kept nor written through. */
	snprintf(outside, sizeof(outside), "%s/outside", dir);
	ck_assert_int_eq(file_write_atomic_at(AT_FDCWD, outside, "safe", 4, 0644), 0);
	ck_assert_int_eq(symlinkat("outside", dir_fd, "f.tmp"), 0);
	ck_assert_int_eq(file_write_atomic_at(dir_fd, "f", "one", 3, 0600), 0);
	ck_assert_int_eq(file_read_at(dir_fd, "outside", &b), 0);
	ck_assert_str_eq(buf_str(&b), "safe");
	ck_assert_int_eq(fstatat(dir_fd, "f", &st, AT_SYMLINK_NOFOLLOW), 0);
	ck_assert_uint_eq(st.st_mode, S_IFREG | 0600);

	ck_assert_int_eq(file_write_atomic_at(dir_fd, "f", "two!", 4, 0640), 0);
	buf_clear(&b);
	ck_assert_int_eq(file_read_at(dir_fd, "f", &b), 0);
	ck_assert_str_eq(buf_str(&b), "two!");
	ck_assert_int_eq(faccessat(dir_fd, "f.tmp", F_OK, AT_SYMLINK_NOFOLLOW), -1);

	/* A failure leaves no temporary file. */
	ck_assert_int_eq(mkdirat(dir_fd, "d", 0700), 0);
	ck_assert_int_eq(file_write_atomic_at(dir_fd, "d", "x", 1, 0600), -EISDIR);
	ck_assert_int_eq(faccessat(dir_fd, "d.tmp", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	ck_assert_int_eq(file_write_atomic_at(dir_fd, "no/f", "x", 1, 0600), -ENOENT);
}
END_TEST

START_TEST(test_file_write)
{
	auto_buf b = BUF_INIT(100);

	ck_assert_int_eq(file_write_at(dir_fd, "none", "x"), -ENOENT);
	ck_assert_int_eq(file_write_atomic_at(dir_fd, "f", "", 0, 0600), 0);
	ck_assert_int_eq(file_write_at(dir_fd, "f", "1"), 0);
	ck_assert_int_eq(file_read_at(dir_fd, "f", &b), 0);
	ck_assert_str_eq(buf_str(&b), "1");
}
END_TEST

START_TEST(test_file_mkdirs)
{
	char path[sizeof(dir) + 32];
	struct stat st;

	snprintf(path, sizeof(path), "%s/a/b//c", dir);
	ck_assert_int_eq(file_mkdirs(path), 0);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert(S_ISDIR(st.st_mode));
	ck_assert_int_eq(file_mkdirs(path), 0);
	ck_assert_int_eq(file_write_atomic_at(dir_fd, "f", "", 0, 0600), 0);
	snprintf(path, sizeof(path), "%s/f", dir);
	ck_assert_int_eq(file_mkdirs(path), -ENOTDIR);
	snprintf(path, sizeof(path), "%s/f/g", dir);
	ck_assert_int_eq(file_mkdirs(path), -ENOTDIR);
	ck_assert_int_eq(file_mkdirs(""), -ENOENT);
	ck_assert_int_eq(file_mkdirs("/"), 0);
}
END_TEST

START_TEST(test_file_remove_tree)
{
	char path[sizeof(dir) + 64];
	char safe[sizeof(dir) + 16];

	snprintf(safe, sizeof(safe), "%s/safe", dir);
	ck_assert_int_eq(file_mkdirs(safe), 0);
	ck_assert_int_eq(file_write_atomic_at(dir_fd, "safe/kept", "x", 1, 0600), 0);
	snprintf(path, sizeof(path), "%s/tree/1/2/3", dir);
	ck_assert_int_eq(file_mkdirs(path), 0);
	for (int i = 0; i < 200; i++) {
		snprintf(path, sizeof(path), "tree/1/file-%d", i);
		ck_assert_int_eq(file_write_at(dir_fd, path, ""), -ENOENT);
		fd_close(&(int){ openat(dir_fd, path, O_WRONLY | O_CREAT | O_CLOEXEC, 0) });
	}
	ck_assert_int_eq(symlinkat(safe, dir_fd, "tree/1/2/link"), 0);
	ck_assert_int_eq(symlinkat("nowhere", dir_fd, "tree/dangling"), 0);
	ck_assert_int_eq(mkfifoat(dir_fd, "tree/fifo", 0600), 0);

	ck_assert_int_eq(file_remove_tree_at(dir_fd, "tree"), 0);
	ck_assert_int_eq(faccessat(dir_fd, "tree", F_OK, AT_SYMLINK_NOFOLLOW), -1);
	ck_assert_int_eq(faccessat(dir_fd, "safe/kept", F_OK, 0), 0);
	ck_assert_int_eq(file_remove_tree_at(dir_fd, "tree"), 0);
	ck_assert_int_eq(file_remove_tree_at(dir_fd, "safe/kept"), 0);
	ck_assert_int_eq(symlinkat(safe, dir_fd, "link"), 0);
	ck_assert_int_eq(file_remove_tree_at(dir_fd, "link"), 0);
	ck_assert_int_eq(faccessat(dir_fd, "safe", F_OK, 0), 0);
}
END_TEST

/* One level more than is followed: an error, not a stack that runs out. */
START_TEST(test_file_remove_too_deep)
{
	enum { LEVELS = 80 };
	auto_close int fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3);

	for (int i = 0; i < LEVELS; i++) {
		int below;

		ck_assert_int_eq(mkdirat(fd, "d", 0700), 0);
		below = openat(fd, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		fd_close(&fd);
		fd = below;
	}
	ck_assert_int_eq(file_remove_tree_at(dir_fd, "d"), -ELOOP);
	/* From further down it can be done, and then from the top. */
	fd_close(&fd);
	fd = openat(dir_fd, "d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d",
		    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(file_remove_tree_at(fd, "d"), 0);
	ck_assert_int_eq(file_remove_tree_at(dir_fd, "d"), 0);
}
END_TEST

START_TEST(test_file_sync_dir)
{
	ck_assert_int_eq(file_sync_dir(dir_fd), 0);
	ck_assert_int_eq(file_sync_dir(-1), -EBADF);
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

/* op */

START_TEST(test_op_deadlines)
{
	struct op op;
	struct op other;
	struct op child;

	op_init(&op, 0, -1);
	op_init(&other, 10000, -1);
	ck_assert_uint_ne(op.id, other.id);
	ck_assert_int_eq(op_poll_ms(&op), -1);
	ck_assert_int_eq(op_check(&op), 0);
	ck_assert_int_gt(op_poll_ms(&other), 0);
	ck_assert_int_le(op_poll_ms(&other), 10000);

	child = op_child(&op, 5000);
	ck_assert_uint_eq(child.id, op.id);
	ck_assert_int_gt(op_poll_ms(&child), 0);
	child = op_child(&op, 0);
	ck_assert_int_eq(op_poll_ms(&child), -1);
	child = op_child(&other, 60000); /* never later than the parent */
	ck_assert_uint_eq(child.deadline_ns, other.deadline_ns);
	child = op_child(&other, 10);
	ck_assert_uint_lt(child.deadline_ns, other.deadline_ns);
	other.deadline_ns = 1;
	ck_assert_int_eq(op_poll_ms(&other), 0);
	ck_assert_int_eq(op_check(&other), -ETIMEDOUT);
	other.deadline_ns = UINT64_MAX;
	ck_assert_int_eq(op_poll_ms(&other), INT_MAX);
}
END_TEST

START_TEST(test_op_child_has_its_own_error)
{
	struct op op;
	struct op child;

	op_init(&op, 0, 5);
	err_set(&op.err, ERR_INVALID, "parent");
	child = op_child(&op, 0);
	ck_assert(!err_is_set(&child.err));
	ck_assert_int_eq(child.cancel_fd, 5);
}
END_TEST

START_TEST(test_op_wait)
{
	int data[2];
	int also[2];
	int cancel[2];
	struct op op;

	ck_assert_int_eq(pipe2(data, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(also, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(cancel, O_CLOEXEC), 0);
	op_init(&op, 20, cancel[0]);
	ck_assert_int_eq(op_wait_fd(&op, data[0], POLLIN, also[0]), -ETIMEDOUT);
	ck_assert_int_eq(op_wait_fd(&op, data[1], POLLOUT, -1), 1); /* ready beats the deadline */
	op_init(&op, 0, cancel[0]);
	ck_assert_int_eq(write(also[1], "x", 1), 1);
	ck_assert_int_eq(op_wait_fd(&op, data[0], POLLIN, also[0]), 2);
	ck_assert_int_eq(write(data[1], "x", 1), 1);
	ck_assert_int_eq(op_wait_fd(&op, data[0], POLLIN, also[0]), 1);
	ck_assert_int_eq(op_check(&op), 0);
	ck_assert_int_eq(write(cancel[1], "x", 1), 1);
	ck_assert_int_eq(op_wait_fd(&op, data[0], POLLIN, also[0]), -ECANCELED);
	ck_assert_int_eq(op_check(&op), -ECANCELED);
	ck_assert(!err_is_set(&op.err));
	op_init(&op, 1000, -1);
	fd_close(&data[1]);
	ck_assert_int_eq(read(data[0], &(char){ 0 }, 1), 1);
	ck_assert_int_eq(op_wait_fd(&op, data[0], POLLIN, -1), 1); /* the other end hung up */
}
END_TEST

/* log */

/* What log_event() writes on stderr. */
static void capture_log(struct buf *out, void (*fn)(void))
{
	int kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
	int fd = openat(dir_fd, "log", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_eq(dup3(fd, STDERR_FILENO, 0), STDERR_FILENO);
	fn();
	ck_assert_int_eq(dup3(kept, STDERR_FILENO, 0), STDERR_FILENO);
	fd_close(&fd);
	fd_close(&kept);
	buf_clear(out);
	ck_assert_int_eq(file_read_at(dir_fd, "log", out), 0);
}

static void log_odd_values(void)
{
	log_info("test.event", kv_str("plain", "a-b/c.d"), kv_u64("n", UINT64_MAX),
		 kv_str("empty", ""), kv_str("null", NULL), kv_str("space", "a b"),
		 kv_str("quote", "say \"x\\y\""),
		 kv_str("forged", "x\nlevel=error event=y\t\033[1m\x7f"),
		 kv_str("utf8", "caf\xc3\xa9"));
}

START_TEST(test_log_escapes)
{
	auto_buf out = BUF_INIT(100000);

	unsetenv("JOURNAL_STREAM");
	log_setup(LOG_LEVEL_INFO);
	capture_log(&out, log_odd_values);
	ck_assert(str_starts(buf_str(&out), "time=2"));
	ck_assert(str_ends(buf_str(&out),
			   " level=info event=test.event plain=a-b/c.d n=18446744073709551615"
			   " empty=\"\" null=\"\" space=\"a b\" quote=\"say \\\"x\\\\y\\\"\""
			   " forged=\"x\\nlevel=error event=y\\x09\\x1b[1m\\x7f\""
			   " utf8=\"caf\xc3\xa9\"\n"));
	setenv("JOURNAL_STREAM", "1:2", 1);
	capture_log(&out, log_odd_values);
	ck_assert(str_starts(buf_str(&out), "<6>event=test.event plain=a-b/c.d "));
}
END_TEST

static void log_too_long(void)
{
	char *value = xcalloc(1, 5000);

	/* Every length around the end of the line, of a plain value and of one in quotes. */
	for (size_t n = 3900; n < 4200; n++) {
		memset(value, 'v', n);
		log_warning("long", kv_str("key", value), kv_u64("last", 1));
		value[0] = ' ';
		log_warning("long", kv_str("key", value), kv_u64("last", 1));
	}
	free(value);
}

START_TEST(test_log_lines_end)
{
	auto_buf out = BUF_INIT(10000000);
	unsigned lines = 0;

	unsetenv("JOURNAL_STREAM");
	capture_log(&out, log_too_long);
	for (const char *p = buf_str(&out); *p != '\0'; lines++) {
		size_t n = strcspn(p, "\n");

		ck_assert_int_eq(p[n], '\n');
		ck_assert_uint_lt(n, 4096);
		ck_assert(str_starts(p, "time="));
		/* a field is whole or not there: a value in quotes has its closing one */
		ck_assert(p[n - 1] == 'v' || p[n - 1] == '"' || p[n - 1] == '1' || p[n - 1] == 'g');
		if (memmem(p, n, "\"", 1) != NULL)
			ck_assert(p[n - 1] == '"' || p[n - 1] == '1');
		p += n + 1;
	}
	ck_assert_uint_eq(lines, 600);
}
END_TEST

static void log_all_levels(void)
{
	log_error("e");
	log_warning("w");
	log_info("i");
	log_debug("d");
}

START_TEST(test_log_levels)
{
	auto_buf out = BUF_INIT(100000);
	enum log_level level = LOG_LEVEL_INFO;

	unsetenv("JOURNAL_STREAM");
	log_setup(LOG_LEVEL_WARNING);
	capture_log(&out, log_all_levels);
	ck_assert_ptr_nonnull(strstr(buf_str(&out), "level=error event=e\n"));
	ck_assert_ptr_nonnull(strstr(buf_str(&out), "level=warning event=w\n"));
	ck_assert_ptr_null(strstr(buf_str(&out), "level=info"));
	log_setup(LOG_LEVEL_DEBUG);
	capture_log(&out, log_all_levels);
	ck_assert_ptr_nonnull(strstr(buf_str(&out), "level=debug event=d\n"));
	ck_assert_int_eq(log_level_parse("debug", &level), 0);
	ck_assert_int_eq(level, LOG_LEVEL_DEBUG);
	ck_assert_int_eq(log_level_parse("loud", &level), -EINVAL);
}
END_TEST

static TCase *memory_tests(void)
{
	TCase *tc = tcase_create("memory");

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
	tcase_add_test(tc, test_id);
	tcase_add_test(tc, test_tag_and_hex);
	tcase_add_test(tc, test_name_valid);
	tcase_add_test(tc, test_parse_u64);
	tcase_add_test(tc, test_parse_size);
	tcase_add_test(tc, test_parse_bool);
	return tc;
}

static TCase *system_tests(void)
{
	TCase *tc = tcase_create("system");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_fd);
	tcase_add_test(tc, test_file_read);
	tcase_add_test(tc, test_file_write_atomic);
	tcase_add_test(tc, test_file_write);
	tcase_add_test(tc, test_file_mkdirs);
	tcase_add_test(tc, test_file_remove_tree);
	tcase_add_test(tc, test_file_remove_too_deep);
	tcase_add_test(tc, test_file_sync_dir);
	tcase_add_test(tc, test_op_deadlines);
	tcase_add_test(tc, test_op_child_has_its_own_error);
	tcase_add_test(tc, test_op_wait);
	tcase_add_test(tc, test_log_escapes);
	tcase_add_test(tc, test_log_lines_end);
	tcase_add_test(tc, test_log_levels);
	return tc;
}

int main(void)
{
	Suite *s = suite_create("base");
	SRunner *sr = srunner_create(s);
	int failed;

	suite_add_tcase(s, memory_tests());
	suite_add_tcase(s, system_tests());
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
