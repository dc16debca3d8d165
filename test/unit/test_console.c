/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "sandbox/console.h"

#include <check.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RING = CONSOLE_RING_BYTES, LOG_BOUND = 2 * CONSOLE_RING_BYTES };

static char dir[] = "/tmp/viv-console-XXXXXX";
static int dirfd = -1;
static struct console console = CONSOLE_INIT;

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(dirfd, 0);
}

static void teardown(void)
{
	console_done(&console);
	fd_close(&dirfd);
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
}

static void feed(const char *text)
{
	console_feed(&console, text, strlen(text));
}

static void expect_tail(size_t max, const char *text)
{
	auto_free char *tail = console_tail(&console, max);

	ck_assert_str_eq(tail, text);
}

/* @n bytes of the letters a to z, over and over, beginning with the @from-th. */
static char *letters(size_t from, size_t n)
{
	char *text = xcalloc(1, n + 1);

	for (size_t i = 0; i < n; i++)
		text[i] = (char)('a' + (from + i) % 26);
	return text;
}

static size_t log_size(void)
{
	struct stat st;

	ck_assert_int_eq(fstatat(dirfd, "console.log", &st, 0), 0);
	return (size_t)st.st_size;
}

START_TEST(test_empty)
{
	expect_tail(100, "");
	console_feed(&console, "", 0);
	expect_tail(100, "");
	feed("x");
	expect_tail(0, "");
	console_done(&console);
	console_done(&console);
	expect_tail(100, "");
}
END_TEST

START_TEST(test_tail_begins_with_a_line)
{
	feed("one\ntwo\nthree\n");
	expect_tail(100, "one\ntwo\nthree\n");
	expect_tail(14, "one\ntwo\nthree\n");
	expect_tail(13, "two\nthree\n");
	expect_tail(8, "three\n");
	expect_tail(6, ""); /* the newline before it is not seen */
	expect_tail(7, "three\n");
}
END_TEST

START_TEST(test_tail_without_a_line)
{
	feed("abcdefgh");
	expect_tail(3, "fgh");
	expect_tail(8, "abcdefgh");
}
END_TEST

START_TEST(test_tail_drops_control_characters)
{
	static const char text[] = "a\r\x1b[31mb\0\x07\tc\x7f\xc3\xa4\n";

	console_feed(&console, text, sizeof(text) - 1);
	expect_tail(100, "a[31mb\tc\xc3\xa4\n");
}
END_TEST

START_TEST(test_ring_is_bounded)
{
	auto_free char *text = letters(0, 3 * (size_t)RING);
	auto_free char *tail = NULL;

	console_feed(&console, text, RING);
	ck_assert_uint_eq(console.ring.len, RING);
	console_feed(&console, text + RING, 1);
	ck_assert_uint_eq(console.ring.len, RING);
	tail = console_tail(&console, RING);
	ck_assert_uint_eq(strlen(tail), RING);
	ck_assert_mem_eq(tail, text + 1, RING);
}
END_TEST

START_TEST(test_one_feed_larger_than_the_ring)
{
	auto_free char *text = letters(0, 3 * (size_t)RING + 7);
	auto_free char *tail = NULL;

	feed("before");
	console_feed(&console, text, 3 * (size_t)RING + 7);
	tail = console_tail(&console, RING);
	ck_assert_uint_eq(strlen(tail), RING);
	ck_assert_str_eq(tail, text + 2 * (size_t)RING + 7);
}
END_TEST

START_TEST(test_log_holds_what_was_fed)
{
	auto_buf log = BUF_INIT(4 * RING);

	ck_assert_int_eq(console_open(&console, dirfd), 0);
	feed("first\n");
	feed("\x1b[0msecond\n");
	ck_assert_int_eq(file_read_at(dirfd, "console.log", &log), 0);
	ck_assert_str_eq(buf_str(&log), "first\n\x1b[0msecond\n");
}
END_TEST

START_TEST(test_log_is_bounded)
{
	enum { PIECE = 1000 };
	size_t fed = 0;
	auto_buf log = BUF_INIT(4 * RING);
	auto_free char *last = NULL;

	ck_assert_int_eq(console_open(&console, dirfd), 0);
	while (fed < (size_t)5 * RING) {
		auto_free char *text = letters(fed, PIECE);

		console_feed(&console, text, PIECE);
		fed += PIECE;
		ck_assert_uint_le(log_size(), LOG_BOUND);
		ck_assert_uint_ge(log_size(), MIN(fed, (size_t)RING));
	}
	ck_assert_int_eq(file_read_at(dirfd, "console.log", &log), 0);
	last = letters(fed - RING, RING);
	ck_assert_str_eq(buf_str(&log) + log.len - RING, last);
}
END_TEST

START_TEST(test_reopen_reads_back)
{
	ck_assert_int_eq(console_open(&console, dirfd), 0);
	feed("by an earlier daemon\n");
	console_done(&console);
	ck_assert_int_eq(console_open(&console, dirfd), 0);
	expect_tail(100, "by an earlier daemon\n");
	feed("now\n");
	expect_tail(100, "by an earlier daemon\nnow\n");
	ck_assert_uint_eq(log_size(), 25);
}
END_TEST

/* The bound counts what was there, too. */
START_TEST(test_reopen_is_bounded)
{
	auto_free char *text = letters(0, RING);

	for (int i = 0; i < 10; i++) {
		ck_assert_int_eq(console_open(&console, dirfd), 0);
		console_feed(&console, text, RING / 2);
		console_done(&console);
		ck_assert_uint_le(log_size(), LOG_BOUND);
	}
}
END_TEST

/* A log that somebody made larger than any of ours is no reason to go without one. */
START_TEST(test_oversized_log)
{
	auto_free char *text = letters(0, 5 * (size_t)RING);
	int fd = openat(dirfd, "console.log", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	ck_assert_int_eq(fd_write_all(fd, text, 5 * (size_t)RING), 0);
	fd_close(&fd);
	ck_assert_int_eq(console_open(&console, dirfd), 0);
	feed("\nnow\n");
	expect_tail(5, "now\n");
	ck_assert_uint_le(log_size(), LOG_BOUND);
}
END_TEST

START_TEST(test_no_log)
{
	int closed = open("/dev/null", O_RDONLY | O_CLOEXEC);

	ck_assert_int_lt(console_open(&console, closed), 0);
	fd_close(&closed);
	feed("still\n");
	expect_tail(100, "still\n");
}
END_TEST

START_TEST(test_broken_log_is_given_up)
{
	ck_assert_int_eq(console_open(&console, dirfd), 0);
	fd_close(&console.log_fd);
	console.log_fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	feed("lost on disk\n");
	ck_assert_int_eq(console.log_fd, -1);
	feed("kept\n");
	expect_tail(100, "lost on disk\nkept\n");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("console");
	TCase *c = tcase_create("console");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(c, setup, teardown);
	tcase_add_test(c, test_empty);
	tcase_add_test(c, test_tail_begins_with_a_line);
	tcase_add_test(c, test_tail_without_a_line);
	tcase_add_test(c, test_tail_drops_control_characters);
	tcase_add_test(c, test_ring_is_bounded);
	tcase_add_test(c, test_one_feed_larger_than_the_ring);
	tcase_add_test(c, test_log_holds_what_was_fed);
	tcase_add_test(c, test_log_is_bounded);
	tcase_add_test(c, test_reopen_reads_back);
	tcase_add_test(c, test_reopen_is_bounded);
	tcase_add_test(c, test_oversized_log);
	tcase_add_test(c, test_no_log);
	tcase_add_test(c, test_broken_log_is_given_up);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
