/* SPDX-License-Identifier: Apache-2.0 */
/* Tar streams, and what hostile ones may do: nothing outside of where they go. */
#include "base/file.h"
#include "base/str.h"
#include "base/tar.h"
#include "os/pack.h"
#include "os/unpack.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STREAM_MAX_BYTES = 4 << 20, DEEP = 300 };

/* <dir>/in is where streams go, <dir>/out what none of them may touch. */
static char dir[] = "/tmp/viv-tar-XXXXXX";
static struct buf stream;

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_int_eq(mkdir("in", 0755), 0);
	ck_assert_int_eq(mkdir("out", 0755), 0);
	ck_assert_int_eq(file_write_atomic_at(AT_FDCWD, "out/victim", "safe", 4, 0600), 0);
	buf_init(&stream, STREAM_MAX_BYTES);
}

static void teardown(void)
{
	buf_done(&stream);
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
}

static void add(enum tar_type type, const char *path, const char *text)
{
	static const char zeros[TAR_BLOCK_BYTES];
	bool file = type == TAR_FILE;
	size_t n = file ? strlen(text) : 0;

	ck_assert_int_eq(tar_put_entry(&stream, &(struct tar_entry){ .path = path,
								     .link = file ? "" : text,
								     .type = type,
								     .mode = 0755,
								     .size_bytes = n }),
			 0);
	ck_assert_int_eq(buf_append(&stream, text, n), 0);
	ck_assert_int_eq(buf_append(&stream, zeros, tar_padding(n)), 0);
}

/* Unpacks the stream into "in" and forgets it. Return: as unpack_feed() and unpack_finish(). */
static int unpack_as(const struct unpack_spec *spec, size_t piece, struct err *e)
{
	struct unpack *u = unpack_new(spec);
	int r = 0;

	for (size_t at = 0; r == 0 && at < stream.len; at += piece)
		r = unpack_feed(u, buf_head(&stream) + at, MIN(piece, stream.len - at), e);
	if (r == 0)
		r = unpack_finish(u, e);
	unpack_free(u);
	buf_clear(&stream);
	return r;
}

static int unpack(const char *name)
{
	struct err e = { 0 };
	int r = unpack_as(&(struct unpack_spec){ .dest = "in", .name = name }, SIZE_MAX / 2, &e);

	ck_assert_int_eq(r < 0, err_is_set(&e));
	return r;
}

/* The victim is as it was, alone, and no name of the stream came up beside the destination. */
static void check_safe(void)
{
	struct stat st;

	ck_assert_int_eq(stat("out/victim", &st), 0);
	ck_assert_int_eq(st.st_size, 4);
	ck_assert_int_eq(st.st_mode & 07777, 0600);
	ck_assert_uint_eq(st.st_nlink, 1);
	ck_assert_int_eq(unlink("out/victim"), 0);
	ck_assert_int_eq(rmdir("out"), 0);
	ck_assert_int_eq(access("evil", F_OK), -1);
}

START_TEST(test_paths_that_leave)
{
	static const char *const paths[] = { "../evil", "a/../../evil", "/tmp/viv-evil",
					     "..",      "x/..",         "//tmp/viv-evil" };

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++) {
		add(TAR_FILE, paths[i], "evil");
		ck_assert_int_lt(unpack(NULL), 0);
		add(TAR_DIR, "top/", "");
		add(TAR_FILE, paths[i], "evil");
		ck_assert_int_lt(unpack("top"), 0);
	}
	ck_assert_int_eq(access("/tmp/viv-evil", F_OK), -1);
	check_safe();
}
END_TEST

START_TEST(test_links_of_the_stream_are_not_followed)
{
	static const char *const to[] = { "../out", "../../out", "/tmp", "." };

	for (size_t i = 0; i < ARRAY_SIZE(to); i++) {
		auto_free char *absolute = str_printf("%s/out", dir);

		add(TAR_DIR, "top/", "");
		add(TAR_SYMLINK, "top/link", i == 2 ? absolute : to[i]);
		add(TAR_FILE, "top/link/victim", "evil");
		ck_assert_int_lt(unpack("top"), 0);
	}
	check_safe();
}
END_TEST

START_TEST(test_what_replaces_a_link_is_made_anew)
{
	struct stat st;

	ck_assert_int_eq(symlink("../out/victim", "in/file"), 0);
	ck_assert_int_eq(symlink("../out", "in/dir"), 0);
	add(TAR_FILE, "file", "evil");
	add(TAR_DIR, "dir/", "");
	add(TAR_FILE, "dir/victim", "evil");
	add(TAR_DIR, "dir/", "");
	ck_assert_int_eq(unpack(NULL), 0);
	ck_assert_int_eq(lstat("in/file", &st), 0);
	ck_assert(S_ISREG(st.st_mode));
	ck_assert_int_eq(lstat("in/dir", &st), 0);
	ck_assert(S_ISDIR(st.st_mode));
	ck_assert_int_eq(access("in/dir/victim", F_OK), 0);
	check_safe();
}
END_TEST

START_TEST(test_hard_links_stay_inside)
{
	static const char *const to[] = { "../out/victim", "/etc/passwd", "link/victim", "none" };
	struct stat st;

	for (size_t i = 0; i < ARRAY_SIZE(to); i++) {
		add(TAR_SYMLINK, "link", "../out");
		add(TAR_HARDLINK, "hard", to[i]);
		ck_assert_int_lt(unpack(NULL), 0);
	}
	add(TAR_FILE, "a", "text");
	add(TAR_HARDLINK, "b", "a");
	ck_assert_int_eq(unpack(NULL), 0);
	ck_assert_int_eq(stat("in/b", &st), 0);
	ck_assert_uint_eq(st.st_nlink, 2);
	check_safe();
}
END_TEST

START_TEST(test_a_root_is_one)
{
	add(TAR_DIR, "top/", "");
	add(TAR_FILE, "other", "evil");
	ck_assert_int_lt(unpack("top"), 0);
	add(TAR_DIR, "top/", "");
	add(TAR_FILE, "topless", "evil");
	ck_assert_int_lt(unpack("top"), 0);
	add(TAR_FILE, "file", "text");
	add(TAR_FILE, "file/below", "evil");
	ck_assert_int_lt(unpack("file"), 0);
	ck_assert_int_lt(unpack("file"), 0); /* empty */
	ck_assert_int_eq(access("in/other", F_OK), -1);
	check_safe();
}
END_TEST

START_TEST(test_a_guest_gives_no_rights)
{
	struct stat st;

	ck_assert_int_eq(tar_put_entry(&stream, &(struct tar_entry){ .path = "x",
								     .link = "",
								     .type = TAR_FILE,
								     .uid = 12345,
								     .mode = 07777 }),
			 0);
	add(TAR_CHARDEV, "null", "");
	add(TAR_FIFO, "pipe", "");
	ck_assert_int_eq(unpack(NULL), 0);
	ck_assert_int_eq(stat("in/x", &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0777);
	ck_assert_uint_eq(st.st_uid, geteuid());
	ck_assert_int_eq(access("in/null", F_OK), -1);
	ck_assert_int_eq(access("in/pipe", F_OK), -1);
	check_safe();
}
END_TEST

/* A directory that is replaced while the stream comes: its mode goes to nobody else's. */
START_TEST(test_a_directory_that_is_replaced_meanwhile)
{
	struct unpack *u = unpack_new(&(struct unpack_spec){ .dest = "in", .name = NULL });
	struct err e = { 0 };
	struct stat st;

	add(TAR_DIR, "d/", "");
	ck_assert_int_eq(unpack_feed(u, buf_head(&stream), stream.len, &e), 0);
	ck_assert_int_eq(rename("in/d", "in/gone"), 0);
	ck_assert_int_eq(symlink("../out", "in/d"), 0);
	buf_clear(&stream);
	add(TAR_FILE, "d/victim", "evil");
	ck_assert_int_lt(unpack_feed(u, buf_head(&stream), stream.len, &e), 0);
	unpack_free(u);
	ck_assert_int_eq(stat("out", &st), 0);
	ck_assert_uint_ne(st.st_ino, 0);
	check_safe();
}
END_TEST

static void pack_all(const char *path, const char *name, size_t piece)
{
	struct pack *p = NULL;
	struct err e = { 0 };
	auto_free char *data = xcalloc(1, piece);
	ssize_t n;

	buf_clear(&stream);
	ck_assert_int_eq(pack_open(path, &(struct pack_spec){ .name = name }, &p, &e), 0);
	while ((n = pack_read(p, data, piece, &e)) > 0)
		ck_assert_int_eq(buf_append(&stream, data, (size_t)n), 0);
	ck_assert_int_eq(n, 0);
	ck_assert_uint_eq(stream.len % TAR_BLOCK_BYTES, 0);
	pack_free(p);
}

START_TEST(test_there_and_back_in_any_pieces)
{
	static const size_t pieces[] = { 1, 3, 511, 512, 513, 65536 };
	struct timespec times[2] = { { 0 }, { .tv_sec = -2, .tv_nsec = 500000000 } };
	struct err e = { 0 };
	struct stat st;

	ck_assert_int_eq(mkdir("out/sub", 0700), 0);
	ck_assert_int_eq(symlink("victim", "out/sub/link"), 0);
	ck_assert_int_eq(utimensat(AT_FDCWD, "out/victim", times, 0), 0);
	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		auto_free char *name = str_printf("copy%zu", i);
		auto_free char *file = str_printf("in/copy%zu/victim", i);
		auto_free char *link = str_printf("in/copy%zu/sub/link", i);

		pack_all("out", "any name", pieces[i]);
		ck_assert_int_eq(unpack_as(&(struct unpack_spec){ .dest = "in", .name = name },
					   pieces[i], &e),
				 0);
		ck_assert_int_eq(stat(file, &st), 0);
		ck_assert_int_eq(st.st_size, 4);
		ck_assert_int_eq(st.st_mode & 07777, 0600);
		ck_assert_int_eq(st.st_mtim.tv_sec, -2);
		ck_assert_int_eq(st.st_mtim.tv_nsec, 500000000);
		ck_assert_int_eq(lstat(link, &st), 0);
		ck_assert(S_ISLNK(st.st_mode));
	}
}
END_TEST

/* What is read of one entry of any kind of extension. */
START_TEST(test_numbers_and_names_of_any_size)
{
	char path[5000];
	const struct tar_entry *got;
	struct tar_reader *r = tar_reader_new();
	struct err e = { 0 };
	const char *p;
	const char *data;
	size_t n;
	size_t len;

	memset(path, 'p', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	ck_assert_int_eq(tar_put_entry(&stream, &(struct tar_entry){ .path = path,
								     .link = "",
								     .type = TAR_FILE,
								     .mode = 04751,
								     .uid = UINT32_MAX,
								     .gid = 07777777 + 1,
								     .size_bytes = 1ULL << 40,
								     .mtime_s = 1LL << 40,
								     .mtime_ns = 1 }),
			 0);
	p = buf_head(&stream);
	n = stream.len;
	ck_assert_int_eq(tar_next(r, &p, &n, &data, &len, &e), TAR_ENTRY);
	got = tar_reader_entry(r);
	ck_assert_str_eq(got->path, path);
	ck_assert_uint_eq(got->mode, 04751);
	ck_assert_uint_eq(got->uid, UINT32_MAX);
	ck_assert_uint_eq(got->gid, 07777777 + 1);
	ck_assert_uint_eq(got->size_bytes, 1ULL << 40);
	ck_assert_int_eq(got->mtime_s, 1LL << 40);
	ck_assert_uint_eq(got->mtime_ns, 1);
	ck_assert(!tar_reader_is_complete(r));
	tar_reader_free(r);
}
END_TEST

/* A head with what a pax extension says: values may hold any byte. */
START_TEST(test_extended_attributes)
{
	static const char records[] = "28 SCHILY.xattr.user.a=b\0=\n\n"
				      "22 SCHILY.xattr.x.y=z\n";
	struct tar_reader *r = tar_reader_new();
	const struct tar_entry *got = tar_reader_entry(r);
	struct err e = { 0 };
	const char *data;
	size_t len;
	const char *p;
	size_t n;
	char *head;

	add(TAR_FILE, "x", "");
	head = buf_head(&stream);
	head[156] = 'x'; /* what follows is of the next entry; so it gets a size and a sum */
	memcpy(head + 124, "00000000062", 12);
	memset(head + 148, ' ', 8);
	for (n = len = 0; n < TAR_BLOCK_BYTES; n++)
		len += (unsigned char)head[n];
	snprintf(head + 148, 8, "%06o", (unsigned)len);
	ck_assert_int_eq(buf_append(&stream, records, sizeof(records) - 1), 0);
	ck_assert_int_eq(
		buf_append(&stream, (char[TAR_BLOCK_BYTES]){ 0 }, tar_padding(sizeof(records) - 1)),
		0);
	add(TAR_FILE, "f", "");
	add(TAR_FILE, "g", "");
	p = buf_str(&stream);
	n = stream.len;
	ck_assert_int_eq(tar_next(r, &p, &n, &data, &len, &e), TAR_ENTRY);
	ck_assert_uint_eq(got->n_xattrs, 2);
	ck_assert_str_eq(got->xattrs[0].name, "user.a");
	ck_assert_uint_eq(got->xattrs[0].n, 4);
	ck_assert_mem_eq(got->xattrs[0].value, "b\0=\n", 4);
	ck_assert_str_eq(got->xattrs[1].name, "x.y");
	ck_assert_int_eq(tar_next(r, &p, &n, &data, &len, &e), TAR_DONE);
	ck_assert_int_eq(tar_next(r, &p, &n, &data, &len, &e), TAR_ENTRY);
	ck_assert_uint_eq(got->n_xattrs, 0); /* they were of the one before */
	tar_reader_free(r);
}
END_TEST

START_TEST(test_directories_may_be_deep_but_not_for_ever)
{
	auto_free char *in = str_printf("%s/in", dir);
	struct pack *p = NULL;
	struct err e = { 0 };
	char data[4096];
	ssize_t n;

	ck_assert_int_eq(chdir("in"), 0);
	for (int i = 0; i < DEEP; i++) {
		ck_assert_int_eq(mkdir("d", 0755), 0);
		ck_assert_int_eq(chdir("d"), 0);
	}
	ck_assert_int_eq(pack_open(in, &(struct pack_spec){ .name = "in" }, &p, &e), 0);
	while ((n = pack_read(p, data, sizeof(data), &e)) > 0)
		;
	ck_assert_int_lt(n, 0);
	ck_assert_ptr_nonnull(strstr(e.msg, "deep"));
	pack_free(p);
	for (int i = 0; i < DEEP; i++)
		ck_assert_int_eq(chdir("..") + rmdir("d"), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("tar");
	TCase *tc = tcase_create("tar");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_paths_that_leave);
	tcase_add_test(tc, test_links_of_the_stream_are_not_followed);
	tcase_add_test(tc, test_what_replaces_a_link_is_made_anew);
	tcase_add_test(tc, test_hard_links_stay_inside);
	tcase_add_test(tc, test_a_root_is_one);
	tcase_add_test(tc, test_a_guest_gives_no_rights);
	tcase_add_test(tc, test_a_directory_that_is_replaced_meanwhile);
	tcase_add_test(tc, test_there_and_back_in_any_pieces);
	tcase_add_test(tc, test_numbers_and_names_of_any_size);
	tcase_add_test(tc, test_extended_attributes);
	tcase_add_test(tc, test_directories_may_be_deep_but_not_for_ever);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
