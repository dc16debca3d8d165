/* SPDX-License-Identifier: Apache-2.0 */
/* Watching directories: what is told, in which order, and what happens when it is too much. */
#include "agent/watch.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/viv-watch-XXXXXX";

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
}

static void teardown(void)
{
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
}

static void put(const char *path, const char *text)
{
	auto_close int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fd_write_all(fd, text, strlen(text)), 0);
}

static void make(const char *path)
{
	ck_assert_int_eq(mkdir(path, 0755), 0);
}

/* Writes events down as "C name\n". */
static int note(enum watch_event event, const char *name, void *arg)
{
	static const char letters[] = "CWRMA"; /* create, write, remove, move, attributes */

	static_assert(sizeof(letters) - 1 == WATCH_EVENT_N, "each event has a letter");
	ck_assert_int_eq(buf_printf(arg, "%c %s\n", letters[event], name), 0);
	return 0;
}

static struct watch *open_watch(const char *path, bool recursive)
{
	struct connect_error e = { 0 };
	struct watch *w = NULL;

	ck_assert_msg(watch_open(path, recursive, &w, &e) == 0, "%s", e.msg);
	return w;
}

/* All that happened until now. */
static const char *events(struct watch *w)
{
	static struct buf text = BUF_INIT(1 << 20);
	struct connect_error e = { 0 };
	size_t before;

	buf_clear(&text);
	do {
		before = text.len;
		ck_assert_msg(watch_read(w, note, &text, &e) == 0, "%s", e.msg);
	} while (text.len > before);
	return buf_str(&text);
}

START_TEST(plain_directory)
{
	struct watch *w;

	put("old", "x");
	make("sub");
	w = open_watch(dir, false);
	ck_assert_str_eq(events(w), "");
	put("new", "x");
	put("old", "y");
	ck_assert_int_eq(chmod("old", 0600), 0);
	ck_assert_int_eq(rename("old", "moved"), 0);
	ck_assert_int_eq(unlink("moved"), 0);
	put("sub/below", "not told");
	ck_assert_str_eq(events(w), "C new\nW new\nW old\nA old\nM old\nC moved\nR moved\n");
	watch_free(w);
}
END_TEST

START_TEST(tree_that_is_there)
{
	struct watch *w;

	make("a");
	make("a/b");
	w = open_watch(dir, true);
	put("a/b/f", "x");
	ck_assert_str_eq(events(w), "C a/b/f\nW a/b/f\n");
	ck_assert_int_eq(unlink("a/b/f"), 0);
	ck_assert_int_eq(rmdir("a/b"), 0);
	ck_assert_str_eq(events(w), "R a/b/f\nR a/b\n");
	watch_free(w);
}
END_TEST

START_TEST(directories_made_later)
{
	struct watch *w = open_watch(dir, true);

	/* All of it before the watch knows of the first directory. */
	make("a");
	make("a/b");
	put("a/b/f", "x");
	put("a/empty", "");
	ck_assert_str_eq(events(w), "C a\nC a/b\nC a/empty\nC a/b/f\nW a/b/f\n");
	/* Each is told once, and now there are watches. */
	ck_assert_str_eq(events(w), "");
	put("a/b/f", "y");
	put("a/b/g", "");
	ck_assert_str_eq(events(w), "W a/b/f\nC a/b/g\n");
	watch_free(w);
}
END_TEST

/* What is read and also gives an event is told once; what comes after that is told again. */
START_TEST(found_files_are_told_once)
{
	struct watch *w = open_watch(dir, true);
	const char *told;

	for (int i = 0; i < 200; i++) {
		char path[32];

		snprintf(path, sizeof(path), "d%d", i);
		make(path);
		snprintf(path, sizeof(path), "d%d/f", i);
		put(path, "");
		ck_assert_int_eq(unlink(path), 0);
		put(path, "");
	}
	told = events(w);
	for (int i = 0; i < 200; i++) {
		char line[32];
		const char *at;

		snprintf(line, sizeof(line), "C d%d/f\n", i);
		at = strstr(told, line);
		ck_assert_ptr_nonnull(at);
		ck_assert_ptr_null(strstr(at + 1, line));
	}
	ck_assert_int_eq(unlink("d0/f"), 0);
	put("d0/f", "");
	ck_assert_str_eq(events(w), "R d0/f\nC d0/f\n");
	watch_free(w);
}
END_TEST

START_TEST(moves_within_and_out)
{
	struct watch *w;

	make("in");
	make("in/a");
	make("in/a/b");
	make("in/ab");
	make("out");
	put("in/a/b/f", "x");
	w = open_watch("in", true);
	ck_assert_int_eq(rename("in/a", "in/z"), 0);
	put("in/z/b/g", "");
	ck_assert_str_eq(events(w), "M a\nC z\nC z/b\nC z/b/f\nW z/b/f\nC z/b/g\n");
	put("in/z/b/f", "y");
	put("in/ab/h", "");
	ck_assert_str_eq(events(w), "W z/b/f\nC ab/h\n");
	ck_assert_int_eq(rename("in/z", "out/z"), 0);
	put("out/z/b/f", "not told");
	ck_assert_str_eq(events(w), "M z\n");
	ck_assert_int_eq(rename("out/z", "in/y"), 0);
	ck_assert_str_eq(events(w), "C y\nC y/b\nC y/b/f\nW y/b/f\nC y/b/g\n");
	watch_free(w);
}
END_TEST

/* A directory that moves into one that is new, before either is known. */
START_TEST(moved_into_a_new_directory)
{
	struct watch *w;

	make("a");
	w = open_watch(dir, true);
	make("new");
	ck_assert_int_eq(rename("a", "new/a"), 0);
	events(w);
	put("new/a/f", "");
	ck_assert_str_eq(events(w), "C new/a/f\n");
	watch_free(w);
}
END_TEST

START_TEST(links)
{
	struct watch *w;

	make("real");
	make("elsewhere");
	ck_assert_int_eq(symlink("real", "link"), 0);
	ck_assert_int_eq(symlink("../elsewhere", "real/away"), 0);
	ck_assert_int_eq(symlink(".", "real/self"), 0);
	w = open_watch("link", true);
	put("real/f", "");
	put("elsewhere/f", "not told");
	ck_assert_int_eq(symlink("..", "real/up"), 0);
	ck_assert_str_eq(events(w), "C f\nC up\n");
	watch_free(w);
}
END_TEST

/* Reads on until the watch ends; what was told before that. */
static const char *last_events(struct watch *w, enum connect_code want)
{
	static struct buf text = BUF_INIT(1 << 20);
	struct connect_error e = { 0 };

	buf_clear(&text);
	for (int i = 0; i < 100 && e.code == CONNECT_OK; i++)
		ignore_err(watch_read(w, note, &text, &e)); /* the code is looked at */
	ck_assert_int_eq(e.code, want);
	return buf_str(&text);
}

START_TEST(the_root_itself)
{
	struct watch *w;

	make("a");
	make("a/c");
	w = open_watch("a", true);
	ck_assert_int_eq(chmod("a", 0700), 0);
	put("a/c/f", "");
	ck_assert_str_eq(events(w), "A .\nC c/f\n");
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, "a"), 0);
	ck_assert_str_eq(last_events(w, CONNECT_NOT_FOUND), "R c/f\nR c\nR .\n");
	watch_free(w);

	make("b");
	w = open_watch("b", true);
	ck_assert_int_eq(rename("b", "z"), 0);
	ck_assert_str_eq(last_events(w, CONNECT_NOT_FOUND), "M .\n");
	watch_free(w);
}
END_TEST

static enum connect_code refused(const char *path)
{
	struct connect_error e = { 0 };
	struct watch *w = NULL;

	ck_assert_int_eq(watch_open(path, true, &w, &e), -EPROTO);
	ck_assert_ptr_null(w);
	ck_assert(strstr(e.msg, path) != NULL);
	return e.code;
}

START_TEST(refusals)
{
	put("file", "");
	ck_assert_int_eq(refused("file"), CONNECT_INVALID_ARGUMENT);
	ck_assert_int_eq(refused("nothing"), CONNECT_NOT_FOUND);
}
END_TEST

START_TEST(overflow_is_an_error)
{
	auto_buf limit = BUF_INIT(100);
	auto_buf text = BUF_INIT(64 << 20);
	struct watch *w = open_watch(dir, false);
	struct connect_error e = { 0 };
	int r = 0;

	ck_assert_int_eq(file_read_at(AT_FDCWD, "/proc/sys/fs/inotify/max_queued_events", &limit),
			 0);
	for (unsigned long i = strtoul(buf_str(&limit), NULL, 10) / 2 + 10; i > 0; i--) {
		put("f", "");
		ck_assert_int_eq(unlink("f"), 0);
	}
	for (int i = 0; i < 100000 && r == 0; i++)
		r = watch_read(w, note, &text, &e);
	ck_assert_int_eq(r, -EPROTO);
	ck_assert_int_eq(e.code, CONNECT_DATA_LOSS);
	ck_assert(str_starts(buf_str(&text), "C f\nR f\n"));
	watch_free(w);
}
END_TEST

static int stop(enum watch_event event, const char *name, void *arg)
{
	(void)event;
	(void)name;
	(*(int *)arg)++;
	return -EPROTO;
}

START_TEST(a_reader_can_stop)
{
	struct watch *w = open_watch(dir, true);
	struct connect_error e = { 0 };
	int n = 0;

	make("a");
	put("a/f", "");
	put("g", "");
	ck_assert_int_eq(watch_read(w, stop, &n, &e), -EPROTO);
	ck_assert_int_eq(n, 1);
	watch_free(w);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("agent_watch");
	TCase *t = tcase_create("watch");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, plain_directory);
	tcase_add_test(t, tree_that_is_there);
	tcase_add_test(t, directories_made_later);
	tcase_add_test(t, found_files_are_told_once);
	tcase_add_test(t, moves_within_and_out);
	tcase_add_test(t, moved_into_a_new_directory);
	tcase_add_test(t, links);
	tcase_add_test(t, the_root_itself);
	tcase_add_test(t, refusals);
	tcase_add_test(t, overflow_is_an_error);
	tcase_add_test(t, a_reader_can_stop);
	suite_add_tcase(s, t);
	return s;
}

int main(void)
{
	SRunner *sr = srunner_create(suite());
	int failed;

	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
