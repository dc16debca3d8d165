/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's parts that deal with files, but for the loop: parsers, paths, signatures, entries. */
#include "agent/entry.h"
#include "agent/files-head.h"
#include "agent/gunzip.h"
#include "agent/multipart.h"
#include "agent/path.h"
#include "agent/signature.h"
#include "agent/text.h"
#include "base/str.h"

#include <check.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

/* Reads a body in pieces of @step and writes down what comes: "[name|filename]bytes;" for each part,
 * "$" at the end. Return: 0; what multipart_next() failed with. */
static int read_parts(const char *type, const char *body, size_t n, size_t step, struct buf *out)
{
	struct multipart m;
	const char *data;
	size_t len;
	int r = 0;

	ck_assert_int_eq(multipart_init(&m, type), 0);
	for (size_t i = 0; i < n && r >= 0; i += step) {
		const char *p = body + i;
		size_t left = MIN(step, n - i);

		while ((r = multipart_next(&m, &p, &left, &data, &len)) > MULTIPART_MORE) {
			auto_free char *name = NULL;
			auto_free char *filename = NULL;

			if (r == MULTIPART_DATA)
				ck_assert_int_eq(buf_append(out, data, len), 0);
			if (r == MULTIPART_DONE || r == MULTIPART_END)
				ck_assert_int_eq(buf_puts(out, r == MULTIPART_END ? "$" : ";"), 0);
			if (r != MULTIPART_PART)
				continue;
			ck_assert_int_ge(multipart_param(&m, "name", &name), 0);
			ck_assert_int_ge(multipart_param(&m, "filename", &filename), 0);
			ck_assert_int_eq(buf_printf(out, "[%s|%s]", name != NULL ? name : "-",
						    filename != NULL ? filename : "-"),
					 0);
		}
	}
	ck_assert(r < 0 || multipart_is_complete(&m) == str_ends(buf_str(out), "$"));
	multipart_done(&m);
	return r < 0 ? r : 0;
}

static void check_parts(const char *body, size_t n, const char *want)
{
	for (size_t step = 1; step <= n; step++) {
		auto_buf out = BUF_INIT(100000);

		ck_assert_int_eq(read_parts("multipart/form-data; boundary=B", body, n, step, &out),
				 0);
		ck_assert_str_eq(buf_str(&out), want);
	}
}

#define PARTS(body, want) check_parts(body, sizeof(body) - 1, want)
#define DISPOSITION(s)    "Content-Disposition: form-data; " s "\r\n"

START_TEST(multipart_whole)
{
	PARTS("--B\r\n" DISPOSITION("name=\"file\"; filename=\"a/b.txt\"") "\r\nhello\r\n--B--\r\n",
	      "[file|a/b.txt]hello;$");
	PARTS("--B\r\n" DISPOSITION("name=file") "X: y\r\n\r\none\r\n--B\r\n" DISPOSITION(
		      "filename=f; name=g") "\r\n\r\n--B--",
	      "[file|-]one;[g|f];$");
}
END_TEST

START_TEST(multipart_lenient)
{
	/* Preamble, epilogue, blanks behind a boundary, no headers, no blank line of an empty part. */
	PARTS("before\r\n--B \t\r\n\r\nx\r\n--B--after\r\n--B\r\n", "[-|-]x;$");
	PARTS("--B\r\n" DISPOSITION("name=a") "\r\n--B--", "[a|-];$");
	PARTS("--B\r\ncontent-disposition:form-data;NAME=a\r\n\r\n--B--", "[a|-];$");
	/* The first of two headers counts. */
	PARTS("--B\r\n" DISPOSITION("name=a") DISPOSITION("name=b") "\r\n\r\n--B--", "[a|-];$");
}
END_TEST

START_TEST(multipart_data_like_delimiters)
{
	PARTS("--B\r\n\r\n\r\n\r\r\n-\r\n--\r\n--C\n--B\r--B\r\n--B--",
	      "[-|-]\r\n\r\r\n-\r\n--\r\n--C\n--B\r--B;$");
	PARTS("--B\r\n\r\n--C\r\n--B--", "[-|-]--C;$");
	PARTS("\r\n-\r\n--B\r\n\r\n-\r\n--B--", "[-|-]-;$");
}
END_TEST

START_TEST(multipart_params)
{
	PARTS("--B\r\n" DISPOSITION("name=\"a\\\"b\\\\c\\d\"; filename=\"x;y=z\"") "\r\n\r\n--B--",
	      "[a\"b\\c\\d|x;y=z];$");
	PARTS("--B\r\n" DISPOSITION("filename=\"\"; xname=no; name=\"open") "\r\n\r\n--B--",
	      "[open|];$");
	PARTS("--B\r\n" DISPOSITION(" name = x ; ;;=;name=\"r\xc3\xa9\"") "\r\n\r\n--B--",
	      "[r\xc3\xa9|-];$");
}
END_TEST

START_TEST(multipart_incomplete)
{
	PARTS("", "");
	PARTS("no boundary at all\r\n--C\r\n", "");
	PARTS("--B\r\n" DISPOSITION("name=a") "\r\ndata", "[a|-]data");
	PARTS("--B\r\n\r\ndata\r\n--B", "[-|-]data;");
	PARTS("--B\r\n\r\ndata\r\n--", "[-|-]data");
}
END_TEST

static int broken(const char *body, size_t n)
{
	int first = 0;

	for (size_t step = 1; step <= n; step++) {
		auto_buf out = BUF_INIT(100000);
		int r = read_parts("multipart/form-data; boundary=B", body, n, step, &out);

		if (step == 1)
			first = r;
		ck_assert_int_eq(r, first);
	}
	return first;
}

#define BROKEN(body) broken(body, sizeof(body) - 1)

START_TEST(multipart_malformed)
{
	ck_assert_int_eq(BROKEN("--BX\r\n"), -EBADMSG);
	ck_assert_int_eq(BROKEN("--B-X"), -EBADMSG);
	ck_assert_int_eq(BROKEN("--B\n\n"), -EBADMSG);
	ck_assert_int_eq(BROKEN("--B\rX"), -EBADMSG);
	ck_assert_int_eq(BROKEN("--B\r\nno colon\r\n\r\n"), -EBADMSG);
	ck_assert_int_eq(BROKEN("--B\r\nA: b\nC: d\r\n\r\n"), -EBADMSG);
	ck_assert_int_eq(BROKEN("--B\r\nA: b\0\r\n\r\n"), -EBADMSG);
	ck_assert_int_eq(BROKEN("--B\r\n\nA: b\r\n\r\n"), -EBADMSG);
}
END_TEST

START_TEST(multipart_head_is_bounded)
{
	auto_buf body = BUF_INIT(1 << 20);
	auto_buf out = BUF_INIT(100);

	ck_assert_int_eq(buf_puts(&body, "--B\r\nA: "), 0);
	while (body.len <= MULTIPART_HEAD_MAX + 10)
		ck_assert_int_eq(buf_puts(&body, "aaaaaaaa"), 0);
	ck_assert_int_eq(read_parts("multipart/form-data; boundary=B", buf_head(&body), body.len,
				    1000, &out),
			 -EMSGSIZE);
}
END_TEST

START_TEST(multipart_boundaries)
{
	static const char *const good[] = { "multipart/form-data;boundary=B",
					    "multipart/form-data; charset=x; Boundary=\"B\"; a=b" };
	static const char *const bad[] = {
		"multipart/form-data",
		"multipart/form-data; boundary=",
		"multipart/form-data; xboundary=B",
		"multipart/form-data; boundary=\"B \"",
		"multipart/form-data; boundary=\"\tB\"",
		"multipart/form-data; boundary=\xc3\xa9",
		("multipart/form-data; boundary="
		 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"),
	};
	struct multipart m;

	for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
		ck_assert_int_eq(multipart_init(&m, good[i]), 0);
		ck_assert_str_eq(m.delimiter, "\r\n--B");
		multipart_done(&m);
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		ck_assert_int_eq(multipart_init(&m, bad[i]), -EINVAL);
}
END_TEST

static const struct {
	const char *value;
	uint64_t size;
	int r;
	uint64_t first;
	uint64_t n;
} ranges[] = {
	{ NULL, 10, 0, 0, 0 },
	{ "bytes=0-0", 10, 1, 0, 1 },
	{ "bytes=0-9", 10, 1, 0, 10 },
	{ "bytes=2-100", 10, 1, 2, 8 },
	{ "bytes=9-", 10, 1, 9, 1 },
	{ "Bytes=3-4", 10, 1, 3, 2 },
	{ "bytes=-3", 10, 1, 7, 3 },
	{ "bytes=-30", 10, 1, 0, 10 },
	{ "bytes=0-18446744073709551615", 10, 1, 0, 10 },
	{ "bytes=10-", 10, -ERANGE, 0, 0 },
	{ "bytes=10-20", 10, -ERANGE, 0, 0 },
	{ "bytes=-0", 10, -ERANGE, 0, 0 },
	{ "bytes=0-", 0, -ERANGE, 0, 0 },
	{ "bytes=-5", 0, 0, 0, 0 },
	/* No single range of bytes: as if there were none. */
	{ "bytes=0-1,3-4", 10, 0, 0, 0 },
	{ "bytes=4-3", 10, 0, 0, 0 },
	{ "bytes=-", 10, 0, 0, 0 },
	{ "bytes=", 10, 0, 0, 0 },
	{ "bytes=5", 10, 0, 0, 0 },
	{ "bytes=a-b", 10, 0, 0, 0 },
	{ "bytes=1-b", 10, 0, 0, 0 },
	{ "bytes= 1-2", 10, 0, 0, 0 },
	{ "lines=1-2", 10, 0, 0, 0 },
	{ "bytes=99999999999999999999-", 10, 0, 0, 0 },
	{ "bytes=00000000000000000000000000000000000000000000000000000000000000000001-2", 10, 0, 0,
	  0 },
};

START_TEST(range_forms)
{
	uint64_t first = 77;
	uint64_t n = 77;

	ck_assert_int_eq(files_range_parse(ranges[_i].value, ranges[_i].size, &first, &n),
			 ranges[_i].r);
	ck_assert_uint_eq(first, ranges[_i].r > 0 ? ranges[_i].first : 77);
	ck_assert_uint_eq(n, ranges[_i].r > 0 ? ranges[_i].n : 77);
}
END_TEST

START_TEST(identity_wanted)
{
	static const char *const yes[] = { NULL,
					   "",
					   "gzip",
					   "gzip, br",
					   "*;q=0.5",
					   "identity;q=0.001",
					   "gzip;q=0",
					   "identity, *;q=0",
					   "*;q=0, identity;q=1",
					   "gzip;q=1.0, identity; q=0.5, *;q=0" };
	static const char *const no[] = { "identity;q=0", "identity; q=0.000",    "gzip, *;q=0",
					  "*;q=0",        "gzip,identity;q=0,br", "IDENTITY;Q=0" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++)
		ck_assert_msg(files_identity_ok(yes[i]), "%s", yes[i]);
	for (size_t i = 0; i < ARRAY_SIZE(no); i++)
		ck_assert_msg(!files_identity_ok(no[i]), "%s", no[i]);
}
END_TEST

START_TEST(head_texts)
{
	char disposition[FILES_DISPOSITION_SIZE];
	char date[FILES_DATE_SIZE];
	char longest[256];

	files_date(784111777, date);
	ck_assert_str_eq(date, "Sun, 06 Nov 1994 08:49:37 GMT");
	files_disposition("a b.txt", disposition);
	ck_assert_str_eq(disposition, "inline; filename=\"a b.txt\"");
	files_disposition("q\"\\", disposition);
	ck_assert_str_eq(disposition, "inline; filename=\"q\\\"\\\\\"");
	files_disposition("\xc3\xa9 \n%", disposition);
	ck_assert_str_eq(disposition, "inline; filename*=UTF-8''%C3%A9%20%0A%25");
	/* Names as long as they can be are not cut. */
	memset(longest, '"', 255);
	longest[255] = '\0';
	files_disposition(longest, disposition);
	ck_assert(str_ends(disposition, "\\\"\""));
	memset(longest, '\xff', 255);
	files_disposition(longest, disposition);
	ck_assert_uint_eq(strlen(disposition), strlen("inline; filename*=UTF-8''") + 3 * 255);
}
END_TEST

static const struct {
	const char *path;
	const char *want;
} paths[] = {
	{ "/", "/" },           { "/a", "/a" },       { "//a///b/", "/a/b" },
	{ "/a/./b/.", "/a/b" }, { "/a/../b", "/b" },  { "/../../a", "/a" },
	{ "/a/..", "/" },       { "/...", "/..." },   { "/.a/..b", "/.a/..b" },
	{ "", "/work" },        { "a", "/home/u/a" }, { "./a/b", "/home/u/a/b" },
	{ "../x", "/home/x" },  { "../../..", "/" },  { ".", "/home/u" },
	{ "~", "/home/u" },     { "~/", "/home/u" },  { "~/a", "/home/u/a" },
	{ "a~", "/home/u/a~" }, { "/~", "/~" },       { "\xff", "/home/u/\xff" },
};

START_TEST(path_forms)
{
	char out[PATH_MAX];

	ck_assert_int_eq(path_resolve(paths[_i].path, "/home/u/", "/work", out), 0);
	ck_assert_str_eq(out, paths[_i].want);
}
END_TEST

START_TEST(path_edges)
{
	char out[PATH_MAX];
	char text[PATH_MAX + 2];

	ck_assert_int_eq(path_resolve("", "/home/u", NULL, out), 0);
	ck_assert_str_eq(out, "/home/u");
	ck_assert_int_eq(path_resolve("", "/home/u", "~/w", out), 0);
	ck_assert_str_eq(out, "/home/u/w");
	ck_assert_int_eq(path_resolve("", "", NULL, out), 0);
	ck_assert_str_eq(out, "/");
	ck_assert_int_eq(path_resolve("~root", "/home/u", NULL, out), -EINVAL);
	memset(text, 'a', sizeof(text));
	text[0] = '/';
	text[PATH_MAX] = '\0';
	ck_assert_int_eq(path_resolve(text, "/", NULL, out), -ENAMETOOLONG);
	text[PATH_MAX - 1] = '\0';
	ck_assert_int_eq(path_resolve(text, "/", NULL, out), 0);
	ck_assert_str_eq(out, text);
	ck_assert_str_eq(path_name("/a/b"), "b");
	ck_assert_str_eq(path_name("/"), "/");
}
END_TEST

START_TEST(text_repaired)
{
	static const struct {
		const char *bytes;
		const char *want;
	} cases[] = {
		{ "plain", "plain" },
		{ "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80" },
		{ "a\xff"
		  "b",
		  "a\xef\xbf\xbd"
		  "b" },
		{ "\xc3", "\xef\xbf\xbd" },
		{ "\xc0\xaf", "\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xe0\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xf4\x90\x80\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xf0\x9f\x98", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd" },
		{ "\xe2\x82"
		  "x",
		  "\xef\xbf\xbd\xef\xbf\xbdx" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		json_t *json = text_json(cases[i].bytes);

		ck_assert_str_eq(json_string_value(json), cases[i].want);
		json_decref(json);
	}
}
END_TEST

/* Whatever follows two bytes, jansson takes what comes out. */
START_TEST(text_is_always_json)
{
	for (unsigned i = 0; i < 65536; i++) {
		const char bytes[] = { (char)(i >> 8), (char)i, '\x80', '\xbf', 'x', '\0' };
		json_t *json = text_json(bytes);

		ck_assert_ptr_nonnull(json);
		json_decref(json);
	}
}
END_TEST

START_TEST(permissions)
{
	static const struct {
		mode_t mode;
		const char *want;
	} cases[] = {
		{ S_IFREG | 0644, "-rw-r--r--" },   { S_IFREG, "----------" },
		{ S_IFDIR | 0755, "drwxr-xr-x" },   { S_IFLNK | 0777, "Lrwxrwxrwx" },
		{ S_IFIFO | 0600, "prw-------" },   { S_IFSOCK | 0700, "Srwx------" },
		{ S_IFBLK | 0660, "Drw-rw----" },   { S_IFCHR | 0620, "Dcrw--w----" },
		{ S_IFDIR | 01777, "dtrwxrwxrwx" }, { S_IFREG | 04755, "urwxr-xr-x" },
		{ S_IFREG | 06711, "ugrwx--x--x" }, { S_IFCHR | 07777, "Dugctrwxrwxrwx" },
	};
	char out[ENTRY_PERMISSIONS_SIZE];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		entry_permissions(cases[i].mode, out);
		ck_assert_str_eq(out, cases[i].want);
	}
}
END_TEST

START_TEST(entry_times)
{
	char out[ENTRY_TIME_SIZE];

	entry_time(&(struct timespec){ 784111777, 5 }, out);
	ck_assert_str_eq(out, "1994-11-06T08:49:37.000000005Z");
	entry_time(&(struct timespec){ -1, 999999999 }, out);
	ck_assert_str_eq(out, "1969-12-31T23:59:59.999999999Z");
	entry_time(&(struct timespec){ 253402300800, 0 }, out); /* the year 10000 */
	ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(owners_by_number)
{
	char name[OWNER_NAME_SIZE];
	auto_owners owners = { 0 };

	owners_user(&owners, 0, name);
	ck_assert_str_eq(name, "root");
	owners_group(&owners, 0, name);
	ck_assert_str_eq(name, "root");
	owners_user(&owners, 4000000000, name);
	ck_assert_str_eq(name, "4000000000");
}
END_TEST

/* Made with the public description of the form and another implementation of SHA-256. */
START_TEST(signatures)
{
	struct signature_claim claim = { .path = "/home/user/a.txt",
					 .operation = "read",
					 .username = "user" };

	ck_assert(signature_ok("v1_oO3VOyxXH3pkX/nhqGaqe3v8d+8vNhbGG2sLjuGWsuo", &claim, "secret"));
	ck_assert(
		!signature_ok("v1_oO3VOyxXH3pkX/nhqGaqe3v8d+8vNhbGG2sLjuGWsuo", &claim, "secreT"));
	ck_assert(
		!signature_ok("v2_oO3VOyxXH3pkX/nhqGaqe3v8d+8vNhbGG2sLjuGWsuo", &claim, "secret"));
	ck_assert(
		!signature_ok("v1_oO3VOyxXH3pkX/nhqGaqe3v8d+8vNhbGG2sLjuGWsuo=", &claim, "secret"));
	ck_assert(!signature_ok("v1_", &claim, "secret"));
	ck_assert(!signature_ok("", &claim, "secret"));
	claim.operation = "write";
	ck_assert(
		!signature_ok("v1_oO3VOyxXH3pkX/nhqGaqe3v8d+8vNhbGG2sLjuGWsuo", &claim, "secret"));
	claim.operation = "read";
	claim.expiration = "1700000000";
	ck_assert(
		!signature_ok("v1_oO3VOyxXH3pkX/nhqGaqe3v8d+8vNhbGG2sLjuGWsuo", &claim, "secret"));
	ck_assert(signature_ok("v1_mzn+1R74JH2wtsTk6gTeInu24ZlQ7BBVUOs7jGA8Xwc", &claim, "secret"));
}
END_TEST

static size_t gzip(const char *text, size_t n, char *out, size_t size)
{
	z_stream z = { 0 };
	size_t len;

	ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY),
			 Z_OK);
	z.next_in = (Bytef *)(uintptr_t)text;
	z.avail_in = (uInt)n;
	z.next_out = (Bytef *)out;
	z.avail_out = (uInt)size;
	ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
	len = size - z.avail_out;
	deflateEnd(&z);
	return len;
}

/* Return: 0 complete; 1 more is missing; what gunzip_next() failed with. */
static int decode(const char *p, size_t n, size_t step, struct buf *out)
{
	struct gunzip *g = gunzip_new();
	const char *bytes;
	size_t len;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i += step) {
		const char *at = p + i;
		size_t left = MIN(step, n - i);

		do {
			r = gunzip_next(g, &at, &left, &bytes, &len);
			ck_assert_int_eq(r == 0 ? buf_append(out, bytes, len) : 0, 0);
		} while (r == 0 && len > 0);
		ck_assert(r < 0 || left == 0);
	}
	if (r == 0)
		r = !gunzip_is_complete(g);
	gunzip_free(g);
	return r;
}

START_TEST(gunzip_pieces)
{
	static char packed[8192];
	char text[] = "the quick brown fox";
	size_t n = gzip(text, sizeof(text), packed, sizeof(packed));

	n += gzip("", 0, packed + n, sizeof(packed) - n);
	n += gzip("!", 1, packed + n, sizeof(packed) - n);
	for (size_t step = 1; step <= n; step++) {
		auto_buf out = BUF_INIT(1000);

		ck_assert_int_eq(decode(packed, n, step, &out), 0);
		ck_assert_uint_eq(out.len, sizeof(text) + 1);
		ck_assert_mem_eq(buf_head(&out), text, sizeof(text));
	}
}
END_TEST

START_TEST(gunzip_large)
{
	enum { N = 10 << 20 };
	auto_free char *zeros = xcalloc(1, N);
	auto_free char *packed = xcalloc(1, N);
	auto_buf out = BUF_INIT(2 * N);
	size_t n = gzip(zeros, N, packed, N);

	ck_assert_int_eq(decode(packed, n, 3000, &out), 0);
	ck_assert_uint_eq(out.len, N);
	ck_assert_mem_eq(buf_head(&out), zeros, N);
}
END_TEST

START_TEST(gunzip_broken)
{
	static char packed[1000];
	size_t n = gzip("some text", 9, packed, sizeof(packed));
	auto_buf out = BUF_INIT(1000);

	ck_assert_int_eq(decode("", 0, 1, &out), 1);
	ck_assert_int_eq(decode(packed, n - 1, 100, &out), 1);
	ck_assert_int_eq(decode("no gzip", 7, 7, &out), -EBADMSG);
	packed[n] = 'x';
	ck_assert_int_eq(decode(packed, n + 2, 100, &out), -EBADMSG);
	packed[n - 5] ^= 1; /* the checksum */
	ck_assert_int_eq(decode(packed, n, 100, &out), -EBADMSG);
}
END_TEST

static Suite *suite(void)
{
	Suite *s = suite_create("agent_files");
	TCase *t = tcase_create("multipart");

	tcase_add_test(t, multipart_whole);
	tcase_add_test(t, multipart_lenient);
	tcase_add_test(t, multipart_data_like_delimiters);
	tcase_add_test(t, multipart_params);
	tcase_add_test(t, multipart_incomplete);
	tcase_add_test(t, multipart_malformed);
	tcase_add_test(t, multipart_head_is_bounded);
	tcase_add_test(t, multipart_boundaries);
	suite_add_tcase(s, t);

	t = tcase_create("head");
	tcase_add_loop_test(t, range_forms, 0, ARRAY_SIZE(ranges));
	tcase_add_test(t, identity_wanted);
	tcase_add_test(t, head_texts);
	tcase_add_test(t, signatures);
	suite_add_tcase(s, t);

	t = tcase_create("names");
	tcase_add_loop_test(t, path_forms, 0, ARRAY_SIZE(paths));
	tcase_add_test(t, path_edges);
	tcase_add_test(t, text_repaired);
	tcase_add_test(t, text_is_always_json);
	tcase_add_test(t, permissions);
	tcase_add_test(t, entry_times);
	tcase_add_test(t, owners_by_number);
	suite_add_tcase(s, t);

	t = tcase_create("gunzip");
	tcase_add_test(t, gunzip_pieces);
	tcase_add_test(t, gunzip_large);
	tcase_add_test(t, gunzip_broken);
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
