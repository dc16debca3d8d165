/* SPDX-License-Identifier: Apache-2.0 */
/* What images are made of: layers over a tree, and the JSON that tells of them. */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "base/tar.h"
#include "build/layer-made.h"
#include "build/layer.h"
#include "build/oci.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STREAM_MAX_BYTES = 1 << 20, MADE_MANY = 5000 };
#define HEX "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static char dir[64];
static int root_fd;
static struct buf stream;
static struct layer_account account;

static void setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/test-import-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert_int_eq(mkdir("root", 0755) + mkdir("out", 0755), 0);
	root_fd = open("root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	buf_init(&stream, STREAM_MAX_BYTES);
	account = (struct layer_account){ .bytes_left = 1 << 20, .entries_left = 1000 };
}

static void teardown(void)
{
	buf_done(&stream);
	fd_close(&root_fd);
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
}

/* @text is a file's content, or where a link leads. */
static void add(enum tar_type type, const char *path, const char *text)
{
	static const char zeros[TAR_BLOCK_BYTES];
	bool file = type == TAR_FILE;
	size_t n = file ? strlen(text) : 0;

	ck_assert_int_eq(tar_put_entry(&stream, &(struct tar_entry){ .path = path,
								     .link = file ? "" : text,
								     .type = type,
								     .mode = 0755,
								     .uid = geteuid(),
								     .gid = getegid(),
								     .size_bytes = n }),
			 0);
	ck_assert_int_eq(buf_append(&stream, text, n), 0);
	ck_assert_int_eq(buf_append(&stream, zeros, tar_padding(n)), 0);
}

/* Puts the stream over the tree, @piece bytes at a time, and forgets it. */
static int apply_as(bool whiteouts, size_t piece, struct err *e)
{
	struct layer *l = layer_new(&(struct layer_spec){ root_fd, whiteouts, &account });
	const char *p = buf_str(&stream);
	int r = 0;

	for (size_t at = 0; r == 0 && at < stream.len; at += piece)
		r = layer_feed(l, p + at, MIN(piece, stream.len - at), e);
	if (r == 0)
		r = layer_finish(l, e);
	layer_free(l);
	buf_clear(&stream);
	return r;
}

static void apply(void)
{
	struct err e = { 0 };

	ck_assert_msg(apply_as(true, 1000, &e) == 0, "%s", e.msg);
}

static void refuse(const char *why)
{
	struct err e = { 0 };

	ck_assert_int_lt(apply_as(true, 100000, &e), 0);
	ck_assert_msg(strstr(e.msg, why) != NULL, "%s", e.msg);
}

static bool there(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

START_TEST(test_whiteouts_hide_what_is_below)
{
	add(TAR_FILE, "d/a", "1");
	add(TAR_FILE, "d/b", "1");
	add(TAR_FILE, "d/sub/x", "1");
	add(TAR_FILE, "e/f", "1");
	apply();
	add(TAR_FILE, "d/.wh.a", "");
	add(TAR_FILE, ".wh.e", "");
	add(TAR_FILE, ".wh.nothing", "");
	add(TAR_FILE, ".wh..wh.plnk", "");
	apply();
	ck_assert(!there("root/d/a") && there("root/d/b") && !there("root/e"));
	ck_assert(!there("root/.wh.e") && !there("root/.wh..wh.plnk"));
}
END_TEST

/* Wherever in the layer they come. */
START_TEST(test_whiteouts_spare_their_own_layer)
{
	add(TAR_FILE, "d/old", "1");
	add(TAR_FILE, "d/sub/old", "1");
	add(TAR_FILE, "f", "1");
	apply();
	add(TAR_FILE, "d/new", "2");
	add(TAR_FILE, "d/sub/new", "2");
	add(TAR_FILE, "d/.wh..wh..opq", "");
	add(TAR_FILE, "d/late", "2");
	add(TAR_FILE, "f", "2");
	add(TAR_FILE, ".wh.f", "");
	apply();
	ck_assert(there("root/d/new") && there("root/d/late") && there("root/f"));
	ck_assert(!there("root/d/old") && !there("root/d/sub/old"));
	add(TAR_DIR, "d", "");
	add(TAR_DIR, "d/sub", "");
	add(TAR_FILE, "d/sub/third", "3");
	add(TAR_FILE, "d/.wh..wh..opq", "");
	apply();
	ck_assert(there("root/d/sub/third") && !there("root/d/sub/new") && !there("root/d/new"));
}
END_TEST

START_TEST(test_without_whiteouts_they_are_names)
{
	struct err e = { 0 };

	add(TAR_FILE, "a", "1");
	add(TAR_FILE, ".wh.a", "1");
	ck_assert_int_eq(apply_as(false, 7, &e), 0);
	ck_assert(there("root/a") && there("root/.wh.a"));
}
END_TEST

START_TEST(test_whiteouts_of_no_name)
{
	static const char *const names[] = { ".wh.", ".wh..", ".wh..." };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		add(TAR_FILE, names[i], "");
		refuse("no name");
	}
	ck_assert(there("root") && there("out"));
}
END_TEST

START_TEST(test_paths_stay_inside)
{
	auto_free char *outside = str_printf("%s/out", dir);

	add(TAR_FILE, "../out/f", "1");
	refuse("'..'");
	add(TAR_HARDLINK, "h", "../out");
	refuse("'..'");
	add(TAR_SYMLINK, "up", "../../../../out");
	add(TAR_SYMLINK, "abs", outside);
	add(TAR_FILE, "/absolute", "1");
	apply();
	ck_assert(there("root/absolute"));
	add(TAR_FILE, "up/f", "1");
	refuse("up/f"); /* within the root there is no "out" */
	add(TAR_FILE, "abs/f", "1");
	refuse("abs/f");
	add(TAR_DIR, "out", "");
	add(TAR_FILE, "up/f", "1");
	add(TAR_FILE, "up/.wh.g", "1");
	apply();
	ck_assert(there("root/out/f") && !there("out/f"));
}
END_TEST

/* What is replaced is never written through. */
START_TEST(test_kinds_replace_each_other)
{
	add(TAR_SYMLINK, "link", "target");
	add(TAR_FILE, "target", "kept");
	add(TAR_FILE, "dir/below/f", "1");
	add(TAR_FILE, "file", "1");
	add(TAR_HARDLINK, "hard", "target");
	apply();
	add(TAR_FILE, "link", "other");
	add(TAR_FILE, "hard", "other, too");
	add(TAR_FILE, "dir", "1");
	add(TAR_DIR, "file", "");
	apply();
	ck_assert_int_eq(access("root/dir/below", F_OK), -1);
	auto_buf text = BUF_INIT(100);
	struct stat st;

	ck_assert_int_eq(file_read_at(root_fd, "target", &text), 0);
	ck_assert_str_eq(buf_str(&text), "kept");
	ck_assert_int_eq(lstat("root/file", &st), 0);
	ck_assert(S_ISDIR(st.st_mode));
	ck_assert_int_eq(lstat("root/link", &st), 0);
	ck_assert(S_ISREG(st.st_mode));
}
END_TEST

START_TEST(test_cut_and_wrong_streams)
{
	struct err e = { 0 };

	add(TAR_FILE, "f", "some text");
	stream.len -= TAR_BLOCK_BYTES + 1;
	refuse("early");
	ck_assert_int_eq(buf_puts(&stream, "this is no tar stream"), 0);
	refuse("early");
	for (int i = 0; i < 100; i++)
		ck_assert_int_eq(buf_puts(&stream, "this is no tar stream"), 0);
	refuse("malformed");
	ck_assert_int_eq(apply_as(true, 1, &e), 0); /* no entry is none */
}
END_TEST

START_TEST(test_an_account_ends)
{
	account.bytes_left = 4;
	add(TAR_FILE, "f", "12345");
	refuse("more bytes");
	account.entries_left = 1;
	add(TAR_DIR, "a", "");
	add(TAR_DIR, "b", "");
	refuse("more files");
}
END_TEST

START_TEST(test_what_was_made_is_remembered)
{
	struct layer_made made = { 0 };
	char name[16];

	ck_assert(!layer_made_has(&made, 1, "x"));
	for (int i = 0; i < MADE_MANY; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		ck_assert_int_eq(layer_made_add(&made, (ino_t)(i % 3), name), 0);
		ck_assert_int_eq(layer_made_add(&made, (ino_t)(i % 3), name), 0);
	}
	ck_assert_uint_eq(made.n, MADE_MANY);
	for (int i = 0; i < MADE_MANY; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		ck_assert(layer_made_has(&made, (ino_t)(i % 3), name));
		ck_assert(!layer_made_has(&made, 7, name));
	}
	layer_made_done(&made);
}
END_TEST

START_TEST(test_index)
{
	static const struct {
		const char *text;
		int r;           /* < 0: refused */
		const char *why; /* in the message, or the digest */
	} cases[] = {
		{ "{\"manifests\":[{\"digest\":\"sha256:" HEX "\",\"size\":9}]}", 0, HEX },
		{ "{\"manifests\":[{\"digest\":\"sha256:" HEX "\",\"size\":9,\"mediaType\":"
		  "\"application/vnd.oci.image.index.v1+json\"}]}",
		  1, HEX },
		{ "{\"manifests\":[{\"digest\":\"sha256:" HEX "\",\"size\":9,\"platform\":{\"os\":"
		  "\"linux\",\"architecture\":\"amd64\"}},{\"digest\":\"x\",\"platform\":{\"os\":"
		  "\"linux\",\"architecture\":\"arm64\"}}]}",
		  0, HEX },
		{ "{\"manifests\":[]}", -1, "0 images" },
		{ "[]", -1, "0 images" },
		{ "{\"manifests\":[{},{}]}", -1, "2 images" },
		{ "{\"manifests\":[{\"digest\":7,\"size\":9}]}", -1, "only sha256" },
		{ "{\"manifests\":[{\"digest\":\"sha256:00\",\"size\":9}]}", -1, "is none" },
		{ "{\"manifests\":[{\"digest\":\"sha256:" HEX "\",\"size\":-9}]}", -1, "no size" },
		{ "{\"manifests\"", -1, "malformed" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct oci_part part = { .path = NULL };
		struct err e = { 0 };
		int r = oci_index_parse(cases[i].text, strlen(cases[i].text), "amd64", &part, &e);
		const char *got = r < 0 ? e.msg : part.path;

		ck_assert_msg(cases[i].r < 0 ? r < 0 : r == cases[i].r, "%zu: %d %s", i, r, e.msg);
		ck_assert_msg(strstr(got, cases[i].why) != NULL, "%zu: %s", i, got);
		oci_part_done(&part);
	}
}
END_TEST

START_TEST(test_manifests)
{
	static const char good[] = "{\"config\":{\"digest\":\"sha256:" HEX "\",\"size\":1},"
				   "\"layers\":[{\"digest\":\"sha256:" HEX "\",\"size\":2}]}";
	static const char saved[] = "[{\"Config\":\"c.json\",\"Layers\":[\"a/layer.tar\",\"b\"]}]";
	static const char *const bad[] = { "{}",
					   "[]",
					   "{\"config\":{}}",
					   "[{\"Config\":1}]",
					   "[{},{}]",
					   "[{\"Config\":\"c\",\"Layers\":[1]}]",
					   "[{\"Config\":\"c\",\"Layers\":{}}]" };
	struct oci_manifest m;
	struct err e = { 0 };

	ck_assert_int_eq(oci_manifest_parse(good, strlen(good), &m, &e), 0);
	ck_assert_uint_eq(m.layers.n, 1);
	ck_assert_uint_eq(m.layers.at[0].bytes, 2);
	ck_assert_str_eq(m.config.path, "blobs/sha256/" HEX);
	oci_manifest_done(&m);
	ck_assert_int_eq(oci_saved_parse(saved, strlen(saved), &m, &e), 0);
	ck_assert_uint_eq(m.layers.n, 2);
	ck_assert_str_eq(m.layers.at[0].path, "a/layer.tar");
	ck_assert_uint_eq(m.layers.at[0].bytes, OCI_BYTES_ANY);
	oci_manifest_done(&m);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct err why = { 0 };

		ck_assert_int_lt(oci_manifest_parse(bad[i], strlen(bad[i]), &m, &why), 0);
		why = (struct err){ 0 };
		ck_assert_int_lt(oci_saved_parse(bad[i], strlen(bad[i]), &m, &why), 0);
		ck_assert(err_is_set(&why));
	}
}
END_TEST

#define CONFIG(inner)                                                                              \
	"{\"os\":\"linux\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[\"sha256:" HEX     \
	"\"]},\"config\":" inner "}"

START_TEST(test_configuration)
{
	static const char text[] =
		CONFIG("{\"Env\":[\"A=1\",\"B=x=y\",\"A=2\",\"HOST\",\"E=\"],"
		       "\"User\":\"app:grp\",\"WorkingDir\":\"srv\",\"Cmd\":null,"
		       "\"Entrypoint\":[\"/init\",\"-x\"]}");
	struct oci_config c;
	struct err e = { 0 };

	ck_assert_int_eq(oci_config_parse(text, strlen(text), "amd64", &c, &e), 0);
	ck_assert_uint_eq(c.diff_ids.n, 1);
	ck_assert_str_eq(c.user, "app");
	ck_assert_str_eq(c.workdir, "/srv");
	auto_free char *image = json_dumps(c.image, JSON_COMPACT | JSON_SORT_KEYS);

	ck_assert_str_eq(image, "{\"entrypoint\":[\"/init\",\"-x\"],\"env\":{\"A\":\"2\","
				"\"B\":\"x=y\",\"E\":\"\"}}");
	oci_config_done(&c);
	ck_assert_int_lt(oci_config_parse(text, strlen(text), "arm64", &c, &e), 0);
	ck_assert_ptr_nonnull(strstr(e.msg, "linux/amd64, and this host runs linux/arm64"));
}
END_TEST

START_TEST(test_bad_configurations)
{
	static const char *const bad[] = {
		"",
		"{}",
		CONFIG("{\"Env\":[1]}"),
		CONFIG("{\"Env\":[\"=1\"]}"),
		CONFIG("{\"Cmd\":\"sh\"}"),
		CONFIG("{\"Cmd\":[1]}"),
		"{\"os\":\"windows\",\"architecture\":\"amd64\",\"rootfs\":{\"diff_ids\":[]}}",
		"{\"rootfs\":{\"diff_ids\":[\"" HEX "\"]}}",
		"{\"rootfs\":{\"diff_ids\":[7]}}",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct oci_config c;
		struct err e = { 0 };

		ck_assert_msg(oci_config_parse(bad[i], strlen(bad[i]), "amd64", &c, &e) < 0, "%s",
			      bad[i]);
		ck_assert(err_is_set(&e));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("import");
	TCase *tc = tcase_create("import");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_whiteouts_hide_what_is_below);
	tcase_add_test(tc, test_whiteouts_spare_their_own_layer);
	tcase_add_test(tc, test_without_whiteouts_they_are_names);
	tcase_add_test(tc, test_whiteouts_of_no_name);
	tcase_add_test(tc, test_paths_stay_inside);
	tcase_add_test(tc, test_kinds_replace_each_other);
	tcase_add_test(tc, test_cut_and_wrong_streams);
	tcase_add_test(tc, test_an_account_ends);
	tcase_add_test(tc, test_what_was_made_is_remembered);
	tcase_add_test(tc, test_index);
	tcase_add_test(tc, test_manifests);
	tcase_add_test(tc, test_configuration);
	tcase_add_test(tc, test_bad_configurations);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
