/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "build/template-internal.h"
#include "os/spawn.h"
#include "patience.h"
#include "template/publish.h"
#include "template/start.h"
#include "template/template.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { ROOT_BYTES = 8192, HUGE_BYTES = 2 << 20 };
#define DIGEST "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

static char state[64];

static void set_up(void)
{
	auto_free char *templates = NULL;

	snprintf(state, sizeof(state), "/tmp/test-template-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(state));
	templates = str_printf("%s/templates", state);
	ck_assert_int_eq(mkdir(templates, 0755), 0);
}

static void tear_down(void)
{
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, state), 0);
}

static char *path_of(const char *tail)
{
	return str_printf("%s/templates/%s", state, tail);
}

/* A complete template in a directory of its own name. */
static void make_template(const char *dir)
{
	struct template t = { .name = "x",
			      .root_bytes = ROOT_BYTES,
			      .sha256 = DIGEST,
			      .user = "user",
			      .workdir = "/srv",
			      .created_ms = 1700000000123 };
	auto_free char *path = path_of(dir);
	struct err e = { 0 };
	auto_close int fd = -1;
	auto_close int image = -1;

	ck_assert_int_eq(mkdir(path, 0755), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	image = openat(fd, "root.img", O_WRONLY | O_CREAT | O_CLOEXEC, 0444);
	ck_assert_int_eq(ftruncate(image, ROOT_BYTES), 0);
	ck_assert_int_eq(template_write_manifest(fd, &t, NULL, &e), 0);
}

static void write_manifest(const char *dir, const char *text)
{
	auto_free char *path = str_printf("%s/templates/%s/manifest.json", state, dir);

	ck_assert_int_eq(file_write_atomic_at(AT_FDCWD, path, text, strlen(text), 0644), 0);
}

/* What opening fails with. */
static struct err fail_open(const char *name)
{
	struct template t = { .root_bytes = 42 };
	struct err e = { 0 };

	ck_assert_int_lt(template_open(state, name, &t, &e), 0);
	ck_assert(err_is_set(&e));
	ck_assert_uint_eq(t.root_bytes, 42); /* never written on failure */
	ck_assert(!template_exists(state, name));
	return e;
}

static void expect_corrupt(const char *name, const char *text, const char *why)
{
	struct err e;

	write_manifest(name, text);
	e = fail_open(name);
	ck_assert_msg(e.kind == ERR_SYSTEM, "%s: kind %u", text, e.kind);
	ck_assert_msg(strstr(e.msg, why) != NULL, "%s: %s", text, e.msg);
	ck_assert_ptr_nonnull(strstr(e.msg, "vivd prepare --force"));
}

START_TEST(test_start_command)
{
	static struct template_start a, b;
	struct err e = { 0 };
	struct template t;

	make_template("x");
	ck_assert_int_eq(template_open(state, "x", &t, &e), 0);
	ck_assert_int_eq(template_start_read(&t, &a, &e), 0);
	ck_assert_str_eq(a.command, "");
	ck_assert_str_eq(a.id, "");
	ck_assert_int_eq(template_start_write(&t, "serve \"it\" &", "8000", &e), 0);
	ck_assert_int_eq(template_start_read(&t, &a, &e), 0);
	ck_assert_str_eq(a.command, "serve \"it\" &");
	ck_assert_str_eq(a.ready, "8000");
	ck_assert_int_eq(template_start_write(&t, "serve", "8000", &e), 0);
	ck_assert_int_eq(template_start_read(&t, &b, &e), 0);
	ck_assert_uint_eq(strlen(a.id), TEMPLATE_START_ID_SIZE - 1);
	ck_assert_str_ne(a.id, b.id);
	ck_assert_int_eq(template_start_write(&t, "", "", &e), 0);
	ck_assert_int_eq(template_start_read(&t, &b, &e), 0);
	ck_assert_str_eq(b.command, "");
}
END_TEST

START_TEST(test_bad_start_commands)
{
	static const char *const bad[] = { "",
					   "{",
					   "[]",
					   "{}",
					   "{\"startCmd\":\"\",\"readyCmd\":\"\"}",
					   "{\"startCmd\":1,\"readyCmd\":\"\"}",
					   "{\"startCmd\":\"x\"}" };
	auto_free char *path = path_of("x/start.json");
	char *longest = xcalloc(1, TEMPLATE_START_MAX + 2);
	static struct template_start s;
	struct template t;
	struct err e = { 0 };

	make_template("x");
	ck_assert_int_eq(template_open(state, "x", &t, &e), 0);
	memset(longest, 'x', TEMPLATE_START_MAX + 1);
	ck_assert_int_lt(template_start_write(&t, longest, "", &e), 0);
	ck_assert_int_eq(e.kind, ERR_INVALID);
	e = (struct err){ 0 };
	ck_assert_int_lt(template_start_write(&t, "", "8000", &e), 0);
	longest[TEMPLATE_START_MAX] = '\0';
	e = (struct err){ 0 };
	ck_assert_int_eq(template_start_write(&t, longest, longest, &e), 0);
	ck_assert_int_eq(template_start_read(&t, &s, &e), 0);
	ck_assert_str_eq(s.ready, longest);
	free(longest);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		e = (struct err){ 0 };
		ck_assert_int_eq(file_write_atomic_at(AT_FDCWD, path, bad[i], strlen(bad[i]), 0600),
				 0);
		ck_assert_msg(template_start_read(&t, &s, &e) < 0, "%s", bad[i]);
		ck_assert_ptr_nonnull(strstr(e.msg, "start.json"));
	}
}
END_TEST

START_TEST(test_round_trip)
{
	auto_free char *image = path_of("x/root.img");
	struct err e = { 0 };
	struct template t;

	make_template("x");
	ck_assert_int_eq(template_open(state, "x", &t, &e), 0);
	ck_assert_str_eq(t.name, "x");
	ck_assert_str_eq(t.root_path, image);
	ck_assert_uint_eq(t.root_bytes, ROOT_BYTES);
	ck_assert_str_eq(t.sha256, DIGEST);
	ck_assert_str_eq(t.user, "user");
	ck_assert_str_eq(t.workdir, "/srv");
	ck_assert_uint_eq(t.created_ms, 1700000000123);
	ck_assert(template_exists(state, "x"));
}
END_TEST

/* What an image says is kept; of it, the environment is what sandboxes get. */
START_TEST(test_environment)
{
	auto_json *image = json_pack("{s:{s:s, s:s}, s:[s], s:i}", "env", "A", "1", "B", "", "cmd",
				     "sh", "format", 7);
	auto_free char *path = path_of("x");
	auto_json *none = NULL;
	auto_json *env = NULL;
	auto_close int fd = -1;
	struct err e = { 0 };
	struct template t;

	make_template("x");
	ck_assert_int_eq(template_open(state, "x", &t, &e), 0);
	ck_assert_int_eq(template_env(&t, &none, &e), 0);
	ck_assert_uint_eq(json_object_size(none), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(template_write_manifest(fd, &t, image, &e), 0);
	ck_assert_int_eq(template_open(state, "x", &t, &e), 0); /* "format" stays ours */
	ck_assert_int_eq(template_env(&t, &env, &e), 0);
	ck_assert_uint_eq(json_object_size(env), 2);
	ck_assert_str_eq(json_string_value(json_object_get(env, "A")), "1");
}
END_TEST

/* A name's newest build replaces the link; who opened the one before keeps its path. */
START_TEST(test_link_is_followed_once)
{
	auto_free char *link = path_of("base");
	struct err e = { 0 };
	struct template first;
	struct template second;

	make_template("base@1");
	make_template("base@2");
	ck_assert_int_eq(symlink("base@1", link), 0);
	ck_assert_int_eq(template_open(state, "base", &first, &e), 0);
	ck_assert_int_eq(unlink(link), 0);
	ck_assert_int_eq(symlink("base@2", link), 0);
	ck_assert_int_eq(template_open(state, "base", &second, &e), 0);
	ck_assert_str_eq(first.name, "base");
	ck_assert(str_ends(first.root_path, "/base@1/root.img"));
	ck_assert(str_ends(second.root_path, "/base@2/root.img"));
	ck_assert_int_eq(access(first.root_path, R_OK), 0);
}
END_TEST

START_TEST(test_link_out_of_the_folder)
{
	auto_free char *link = path_of("base");

	make_template("x");
	ck_assert_int_eq(symlink("../templates/x", link), 0);
	ck_assert_int_eq(fail_open("base").kind, ERR_SYSTEM);
}
END_TEST

START_TEST(test_broken_link)
{
	auto_free char *link = path_of("base");

	ck_assert_int_eq(symlink("base@gone", link), 0);
	ck_assert_int_eq(fail_open("base").kind, ERR_SYSTEM);
}
END_TEST

START_TEST(test_not_found)
{
	struct err e = fail_open("nosuch");

	ck_assert_int_eq(e.kind, ERR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(e.msg, "no template nosuch in "));
	ck_assert_ptr_nonnull(strstr(e.msg, "vivd prepare"));
}
END_TEST

START_TEST(test_bad_names)
{
	static const char *const names[] = { "",       ".", "..",  "a/b", "/etc", "../x", ".x", "@",
					     "base@1", "A", "a b", "x\n", "x/..", "-x",   "ä" };

	make_template("base@1");
	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		struct err e = fail_open(names[i]);

		ck_assert_msg(e.kind == ERR_INVALID, "%s: %s", names[i], e.msg);
	}
}
END_TEST

START_TEST(test_missing_files)
{
	auto_free char *manifest = path_of("x/manifest.json");
	auto_free char *image = path_of("x/root.img");
	struct err e;

	make_template("x");
	ck_assert_int_eq(truncate(image, ROOT_BYTES / 2), 0);
	e = fail_open("x");
	ck_assert_int_eq(e.kind, ERR_SYSTEM);
	ck_assert_ptr_nonnull(strstr(e.msg, "root.img is not the file of 8192 bytes"));
	ck_assert_int_eq(unlink(image), 0);
	e = fail_open("x");
	ck_assert_int_eq(e.kind, ERR_SYSTEM);
	ck_assert_ptr_nonnull(strstr(e.msg, "root.img: No such file"));
	ck_assert_int_eq(mkdir(image, 0755), 0);
	ck_assert_int_eq(fail_open("x").kind, ERR_SYSTEM);
	ck_assert_int_eq(unlink(manifest), 0);
	e = fail_open("x");
	ck_assert_int_eq(e.kind, ERR_SYSTEM);
	ck_assert_ptr_nonnull(strstr(e.msg, "manifest.json: No such file"));
}
END_TEST

#define MANIFEST(format, bytes, digest, user, workdir, created)                                    \
	"{\"format\": " format ", \"root_bytes\": " bytes ", \"sha256\": " digest                  \
	", \"user\": " user ", \"workdir\": " workdir ", \"created_ms\": " created "}"
#define Q(s) "\"" s "\""

START_TEST(test_corrupt_manifests)
{
	static const struct {
		const char *text;
		const char *why;
	} cases[] = {
		{ "", "'[' or '{' expected" },
		{ "[]", "Expected object" },
		{ "{\"format\": 1", "'}' expected" },
		{ "{\"format\": 1}", "root_bytes" },
		{ "{\"format\": 1, \"format\": 1}", "duplicate" },
		{ MANIFEST("2", "8192", Q(DIGEST), Q("user"), Q(""), "0"), "format" },
		{ MANIFEST("\"1\"", "8192", Q(DIGEST), Q("user"), Q(""), "0"), "Expected integer" },
		{ MANIFEST("1", "-8192", Q(DIGEST), Q("user"), Q(""), "0"), "root_bytes" },
		{ MANIFEST("1", "0", Q(DIGEST), Q("user"), Q(""), "0"), "root_bytes" },
		{ MANIFEST("1", "8191", Q(DIGEST), Q("user"), Q(""), "0"), "root_bytes" },
		{ MANIFEST("1", "8192.0", Q(DIGEST), Q("user"), Q(""), "0"), "Expected integer" },
		{ MANIFEST("1", "9223372036854775296", Q(DIGEST), Q("user"), Q(""), "0"),
		  "root_bytes" },
		{ MANIFEST("1", "92233720368547758070", Q(DIGEST), Q("user"), Q(""), "0"),
		  "too big integer" },
		{ MANIFEST("1", "8192", Q("00"), Q("user"), Q(""), "0"), "sha256" },
		{ MANIFEST("1", "8192", "null", Q("user"), Q(""), "0"), "Expected string" },
		{ MANIFEST("1", "8192", Q(DIGEST), Q(""), Q(""), "0"), "user" },
		{ MANIFEST("1", "8192", Q(DIGEST), Q("a:b"), Q(""), "0"), "user" },
		{ MANIFEST("1", "8192", Q(DIGEST), Q("../x"), Q(""), "0"), "user" },
		{ MANIFEST("1", "8192", Q(DIGEST), Q(DIGEST), Q(""), "0"), "user" },
		{ MANIFEST("1", "8192", Q(DIGEST), Q("user"), Q("srv"), "0"), "workdir" },
		{ MANIFEST("1", "8192", Q(DIGEST), Q("user"), Q("/" DIGEST DIGEST DIGEST DIGEST),
			   "0"),
		  "workdir" },
		{ MANIFEST("1", "8192", Q(DIGEST), Q("user"), Q(""), "-1"), "created_ms" },
	};
	struct err e = { 0 };
	struct template t;

	make_template("x");
	write_manifest("x", MANIFEST("1", "8192", Q(DIGEST), Q("user"), Q(""), "0"));
	ck_assert_int_eq(template_open(state, "x", &t, &e), 0);
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		expect_corrupt("x", cases[i].text, cases[i].why);
}
END_TEST

START_TEST(test_huge_manifest)
{
	auto_free char *text = xcalloc(1, HUGE_BYTES + 1);
	struct err e;

	make_template("x");
	memset(text, ' ', HUGE_BYTES);
	write_manifest("x", text);
	e = fail_open("x");
	ck_assert_msg(strstr(e.msg, "Message too long") != NULL, "%s", e.msg);
}
END_TEST

static void run(const char *const *argv, struct buf *out)
{
	struct op op;

	op_init(&op, patient_ms(60000), -1);
	ck_assert_msg(spawn_run(argv, NULL, out, &op) == 0, "%s", op.err.msg);
}

/* Contents, owners, modes and attributes reach the image; the file system is sound. */
START_TEST(test_image)
{
	auto_free char *root = str_printf("%s/root", state);
	auto_free char *file = str_printf("%s/root/file", state);
	auto_free char *image = str_printf("%s/root.img", state);
	auto_buf text = BUF_INIT(65536);
	char digest[65] = "";
	char expected[65];
	uint64_t bytes = 0;
	struct stat st;
	struct op op;

	op_init(&op, patient_ms(60000), -1);
	ck_assert_int_eq(mkdir(root, 0755), 0);
	ck_assert_int_eq(file_write_atomic_at(AT_FDCWD, file, "hello", 5, 0640), 0);
	ck_assert_int_eq(setxattr(file, "user.tag", "v1", 2, 0), 0);
	ck_assert_msg(image_make(root, image, 16, &op) == 0, "%s", op.err.msg);
	ck_assert_msg(template_seal(image, &bytes, digest, &op) == 0, "%s", op.err.msg);

	ck_assert_int_eq(stat(image, &st), 0);
	ck_assert_uint_eq(bytes, (uint64_t)st.st_size);
	ck_assert_uint_ge(bytes, 16 << 20);
	ck_assert_uint_eq(st.st_mode & 07777, 0444);
	ck_assert_int_lt(st.st_blocks * 512, 4 << 20); /* sparse */
	run((const char *const[]){ "e2fsck", "-fn", image, NULL }, NULL);
	run((const char *const[]){ "debugfs", "-R", "cat /file", image, NULL }, &text);
	ck_assert_ptr_nonnull(strstr(buf_str(&text), "hello"));
	buf_clear(&text);
	run((const char *const[]){ "debugfs", "-R", "ea_get /file user.tag", image, NULL }, &text);
	ck_assert_ptr_nonnull(strstr(buf_str(&text), "v1"));
	buf_clear(&text);
	run((const char *const[]){ "sha256sum", image, NULL }, &text);
	str_copy(expected, sizeof(expected), buf_str(&text));
	ck_assert_str_eq(digest, expected);
}
END_TEST

START_TEST(test_build_needs_a_good_name)
{
	struct template_build_spec spec = { .state_dir = state, .name = "../x" };
	struct op op;

	op_init(&op, patient_ms(60000), -1);
	ck_assert_int_lt(template_build_base(&spec, NULL, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_INVALID);
}
END_TEST

/* A build that fails leaves nothing but the lock's file, and says why. */
START_TEST(test_build_fails_clean)
{
	auto_free char *templates = path_of("");
	struct template_build_spec spec = { .state_dir = state,
					    .name = "base",
					    .mirror = "file:///nonexistent" };
	const char *const ls[] = { "ls", "-A", templates, NULL };
	auto_buf text = BUF_INIT(4096);
	struct op op;

	op_init(&op, patient_ms(60000), -1);
	ck_assert_int_lt(template_build_base(&spec, NULL, &op), 0);
	ck_assert_msg(strstr(op.err.msg, "mmdebstrap failed") != NULL, "%s", op.err.msg);
	ck_assert(!template_exists(state, "base"));
	run(ls, &text);
	ck_assert_str_eq(buf_str(&text), ".base.lock\n");
}
END_TEST

START_TEST(test_build_is_cancelled)
{
	struct template_build_spec spec = { .state_dir = state, .name = "base" };
	struct op op;
	int ends[2];

	ck_assert_int_eq(pipe2(ends, O_CLOEXEC), 0);
	ck_assert_int_eq(write(ends[1], "x", 1), 1);
	op_init(&op, 0, ends[0]);
	ck_assert_int_lt(template_build_base(&spec, NULL, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_CANCELLED);
	close(ends[0]);
	close(ends[1]);
}
END_TEST

/* Told by the second build that it waits: then the first ends, having made the template. */
static void end_first(const char *text, void *arg)
{
	int *lock = arg;

	ck_assert_ptr_nonnull(strstr(text, "waiting"));
	make_template("base");
	fd_close(lock);
}

START_TEST(test_second_build_waits_and_takes_the_first)
{
	auto_free char *lock_path = path_of(".base.lock");
	struct template_build_spec spec = { .state_dir = state, .name = "base" };
	int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct progress progress = { .detail = end_first, .arg = &lock };
	struct op op;

	op_init(&op, patient_ms(60000), -1);
	ck_assert_int_eq(flock(lock, LOCK_EX), 0);
	ck_assert_msg(template_build_base(&spec, &progress, &op) == 0, "%s", op.err.msg);
	ck_assert_int_eq(lock, -1);
}
END_TEST

START_TEST(test_waiting_has_a_deadline)
{
	auto_free char *lock_path = path_of(".base.lock");
	struct template_build_spec spec = { .state_dir = state, .name = "base" };
	auto_close int lock = open(lock_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	struct op op;

	op_init(&op, 100, -1);
	ck_assert_int_eq(flock(lock, LOCK_EX), 0);
	ck_assert_int_eq(template_build_base(&spec, NULL, &op), -ETIMEDOUT);
	ck_assert_int_eq(op.err.kind, ERR_TIMEOUT);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("template");
	TCase *tc = tcase_create("template");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, set_up, tear_down);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_round_trip);
	tcase_add_test(tc, test_environment);
	tcase_add_test(tc, test_link_is_followed_once);
	tcase_add_test(tc, test_link_out_of_the_folder);
	tcase_add_test(tc, test_start_command);
	tcase_add_test(tc, test_bad_start_commands);
	tcase_add_test(tc, test_broken_link);
	tcase_add_test(tc, test_not_found);
	tcase_add_test(tc, test_bad_names);
	tcase_add_test(tc, test_missing_files);
	tcase_add_test(tc, test_corrupt_manifests);
	tcase_add_test(tc, test_huge_manifest);
	tcase_add_test(tc, test_image);
	tcase_add_test(tc, test_build_needs_a_good_name);
	tcase_add_test(tc, test_build_fails_clean);
	tcase_add_test(tc, test_build_is_cancelled);
	tcase_add_test(tc, test_second_build_waits_and_takes_the_first);
	tcase_add_test(tc, test_waiting_has_a_deadline);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
