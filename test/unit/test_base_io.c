/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of src/base that touch the system: descriptors, files, waiting, logging. */
#include "base/buf.h"
#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/log.h"
#include "base/op.h"
#include "base/str.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

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

START_TEST(test_fd_pread_all)
{
	char path[PATH_MAX];
	char got[8] = "";

	snprintf(path, sizeof(path), "%s/pread", dir);
	auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(fd_write_all(fd, "0123456789", 10), 0);
	ck_assert_int_eq(fd_pread_all(fd, got, 4, 3), 0);
	ck_assert_str_eq(got, "3456");
	ck_assert_int_eq(fd_pread_all(fd, got, 4, 6), 0);
	ck_assert_str_eq(got, "6789");
	ck_assert_int_eq(fd_pread_all(fd, got, 4, 7), -ENODATA);
	ck_assert_int_eq(fd_pread_all(fd, got, 1, 10), -ENODATA);
	ck_assert_int_eq(fd_pread_all(fd, got, 0, 99), 0);
	ck_assert_int_eq(fd_pread_all(-1, got, 1, 0), -EBADF);
}
END_TEST

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

/* dir */

START_TEST(test_dir_names)
{
	auto_dir *empty = NULL;
	auto_dir *full = NULL;
	const struct dirent *entry = NULL;

	ck_assert_int_eq(dir_open_at(dir_fd, ".", 0, &empty), 0);
	ck_assert_int_eq(dir_next(empty, &entry), 0);
	ck_assert_ptr_null(entry);
	ck_assert_int_eq(mkdirat(dir_fd, "..below", 0700), 0);
	ck_assert_int_eq(dir_open_at(dir_fd, ".", 0, &full), 0); /* from the beginning */
	ck_assert_int_eq(dir_next(full, &entry), 1);
	ck_assert_str_eq(entry->d_name, "..below");
	ck_assert_int_eq(dir_next(full, &entry), 0);
}
END_TEST

START_TEST(test_dir_cannot_be_opened)
{
	auto_dir *d = NULL;

	ck_assert_int_eq(dir_open_at(dir_fd, "nowhere", 0, &d), -ENOENT);
	ck_assert_int_eq(symlinkat(".", dir_fd, "link"), 0);
	ck_assert_int_eq(dir_open_at(dir_fd, "link", O_NOFOLLOW, &d), -ENOTDIR);
	ck_assert_ptr_null(d);
	ck_assert_int_eq(dir_open_at(dir_fd, "link", 0, &d), 0);
}
END_TEST

/* A disk that fails while its names are read: here, descriptors that are none of a directory. */
START_TEST(test_dir_error_is_no_end)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	int file;

	ck_assert_int_eq(file_write_hint_at(dir_fd, "file", "x", 1, 0600), 0);
	file = openat(dir_fd, "file", O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(dir_open_at(dir_fd, ".", 0, &d), 0);
	ck_assert_int_ge(dup3(file, dirfd(d), O_CLOEXEC), 0);
	ck_assert_int_eq(dir_next(d, &entry), -ENOTDIR);
	fd_close(&file);
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

/* Takes a byte, and gives up at an 'x'. */
static int look_at_pipe(void *arg)
{
	char c = '-';

	return read(*(const int *)arg, &c, 1) == 1 && c == 'x' ? -ENOSPC : 0;
}

START_TEST(test_op_wait_is_watched)
{
	int data[2];
	int said[2];
	struct op_watch watch = { .look = look_at_pipe, .arg = &said[0] };
	struct op op;
	struct op child;

	ck_assert_int_eq(pipe2(data, O_CLOEXEC | O_NONBLOCK), 0);
	ck_assert_int_eq(pipe2(said, O_CLOEXEC | O_NONBLOCK), 0);
	watch.fd = said[0];
	op_init(&op, 20, -1);
	op.watch = &watch;
	child = op_child(&op, 0);
	ck_assert_int_eq(write(said[1], "-", 1), 1);
	ck_assert_int_eq(op_wait_fd(&child, data[0], POLLIN, -1), -ETIMEDOUT);
	ck_assert_int_eq(write(said[1], "-x", 2), 2);
	op_init(&child, 0, -1);
	child.watch = &watch;
	ck_assert_int_eq(op_wait_fd(&child, data[0], POLLIN, -1), -ENOSPC);
	/* What was said before the wait counts, too, also if there is nothing to wait for. */
	ck_assert_int_eq(write(said[1], "x", 1), 1);
	ck_assert_int_eq(op_wait_fd(&child, data[1], POLLOUT, -1), -ENOSPC);
	ck_assert_int_eq(op_wait_fd(&child, data[1], POLLOUT, -1), 1);
	ck_assert(!err_is_set(&child.err));
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

/* The log is the file that stderr is while it is captured. */
static void log_to_journal(void)
{
	char stream[64];
	struct stat st;

	ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
	ck_assert_int_eq(str_fit(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev,
				 (uintmax_t)st.st_ino),
			 0);
	setenv("JOURNAL_STREAM", stream, 1);
	log_odd_values();
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
	setenv("JOURNAL_STREAM", "1:2", 1); /* about another file: inherited */
	capture_log(&out, log_odd_values);
	ck_assert(str_starts(buf_str(&out), "time=2"));
	capture_log(&out, log_to_journal);
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

int main(void)
{
	Suite *s = suite_create("base_io");
	TCase *tc = tcase_create("base_io");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_fd);
	tcase_add_test(tc, test_fd_pread_all);
	tcase_add_test(tc, test_file_read);
	tcase_add_test(tc, test_file_write_atomic);
	tcase_add_test(tc, test_file_write);
	tcase_add_test(tc, test_file_mkdirs);
	tcase_add_test(tc, test_file_remove_tree);
	tcase_add_test(tc, test_file_remove_too_deep);
	tcase_add_test(tc, test_file_sync_dir);
	tcase_add_test(tc, test_op_deadlines);
	tcase_add_test(tc, test_dir_names);
	tcase_add_test(tc, test_dir_cannot_be_opened);
	tcase_add_test(tc, test_dir_error_is_no_end);
	tcase_add_test(tc, test_op_child_has_its_own_error);
	tcase_add_test(tc, test_op_wait);
	tcase_add_test(tc, test_op_wait_is_watched);
	tcase_add_test(tc, test_log_escapes);
	tcase_add_test(tc, test_log_lines_end);
	tcase_add_test(tc, test_log_levels);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
