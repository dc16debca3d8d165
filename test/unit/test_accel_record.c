/* SPDX-License-Identifier: Apache-2.0 */
/* acceleration.json: what was written is read, and anything else is as if it were not there. */
#include "sandbox/accel-internal.h"

#include "base/file.h"
#include "base/str.h"
#include "sandbox/sandbox-internal.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static char dir[] = "/tmp/viv-accel-XXXXXX";
static char path[sizeof(dir) + 32];

static const struct accel_record sample = {
	.key = {
		.boot_id = "3f1f7a7e-6a0b-4c55-9f3c-2d6f0d8e9f10",
		.host_kernel = "6.1.0-40-amd64",
		.guest_kernel = "6.1.0-56-cloud-amd64",
		.vmm = "qemu 7.2.22",
		.cpu = "Example(R) CPU @ 2.60GHz",
	},
	.kvm = true,
	.why = "a guest under KVM reached userspace in 412 ms",
};

/* The file as it should be, for tests that spoil one thing of it. */
static const char text[] = "{\"acceleration\": \"tcg\", \"why\": \"it hung\", \"boot_id\": \"b\", "
			   "\"host_kernel\": \"h\","
			   " \"guest_kernel\": \"g\", \"vmm\": \"v\", \"cpu\": \"c\"}";

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/acceleration.json", dir);
}

static void teardown(void)
{
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
}

/* @text with its first @from replaced by @to. */
static char *spoiled(const char *from, const char *to)
{
	const char *at = strstr(text, from);

	ck_assert_ptr_nonnull(at);
	return str_printf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
}

START_TEST(test_round_trip)
{
	struct accel_record other = sample;
	struct accel_record back;
	struct stat st;

	ck_assert_int_eq(accel_record_write(dir, &sample), 0);
	ck_assert_int_eq(accel_record_read(dir, &back), 0);
	ck_assert(back.kvm);
	ck_assert_str_eq(back.why, sample.why);
	ck_assert(accel_key_equal(&back.key, &sample.key));
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
	ck_assert_int_lt(st.st_size, ACCEL_RECORD_MAX_BYTES);
	other.kvm = false;
	ck_assert_int_eq(accel_record_write(dir, &other), 0);
	ck_assert_int_eq(accel_record_read(dir, &back), 0);
	ck_assert(!back.kvm);
}
END_TEST

/* What is longest still fits into what is read. */
START_TEST(test_longest)
{
	struct accel_record record = { .kvm = true };
	struct accel_record back;

	memset(record.why, '"', sizeof(record.why) - 1);
	memset(record.key.boot_id, '\\', sizeof(record.key.boot_id) - 1);
	memset(record.key.host_kernel, '"', sizeof(record.key.host_kernel) - 1);
	memset(record.key.guest_kernel, '"', sizeof(record.key.guest_kernel) - 1);
	memset(record.key.vmm, '"', sizeof(record.key.vmm) - 1);
	memset(record.key.cpu, '"', sizeof(record.key.cpu) - 1);
	ck_assert_int_eq(accel_record_write(dir, &record), 0);
	ck_assert_int_eq(accel_record_read(dir, &back), 0);
	ck_assert_str_eq(back.why, record.why);
	ck_assert(accel_key_equal(&back.key, &record.key));
}
END_TEST

/* Each part of the key counts. */
START_TEST(test_key)
{
	static const size_t parts[] = {
		offsetof(struct accel_key, boot_id),      offsetof(struct accel_key, host_kernel),
		offsetof(struct accel_key, guest_kernel), offsetof(struct accel_key, vmm),
		offsetof(struct accel_key, cpu),
	};
	struct accel_key empty = { .boot_id = "" };

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++) {
		struct accel_key other = sample.key;

		((char *)&other)[parts[i]]++;
		ck_assert(!accel_key_equal(&other, &sample.key));
	}
	/* Of a host whose boot is not known nothing is believed. */
	ck_assert(!accel_key_equal(&empty, &empty));
}
END_TEST

START_TEST(test_key_of_this_host)
{
	struct manager m = { .vmm = vmm_driver(NULL), .vmm_version = "7.2.22" };
	struct kernel kernel = { .version = "6.1.0-56-cloud-amd64" };
	struct accel_key one;
	struct accel_key two;

	accel_key_find(&m, &kernel, &one);
	accel_key_find(&m, &kernel, &two);
	ck_assert(accel_key_equal(&one, &two));
	ck_assert_uint_eq(strlen(one.boot_id), 36);
	ck_assert_str_ne(one.host_kernel, "");
	ck_assert_str_eq(one.guest_kernel, kernel.version);
	ck_assert_str_eq(one.vmm, "qemu 7.2.22");
	str_copy(m.vmm_version, sizeof(m.vmm_version), "7.2.23");
	accel_key_find(&m, &kernel, &two);
	ck_assert(!accel_key_equal(&one, &two));
}
END_TEST

START_TEST(test_useless_is_not_there)
{
	static const char *const texts[] = { "",     "[]",   "{}",     "{\"acceleration\": \"kvm\"",
					     "{} x", "\xff", "\"kvm\"" };
	static char large[ACCEL_RECORD_MAX_BYTES + 1];
	struct accel_record r = { .why = "as before" };

	ck_assert_int_eq(accel_record_read(dir, &r), -ENOENT);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		ck_assert_int_eq(
			file_write_atomic_at(AT_FDCWD, path, texts[i], strlen(texts[i]), 0600), 0);
		ck_assert_int_eq(accel_record_read(dir, &r), -ENOENT);
	}
	memset(large, ' ', sizeof(large));
	memcpy(large, text, sizeof(text) - 1);
	ck_assert_int_eq(file_write_atomic_at(AT_FDCWD, path, large, sizeof(large), 0600), 0);
	ck_assert_int_eq(accel_record_read(dir, &r), -ENOENT);
	ck_assert_str_eq(r.why, "as before");
	ck_assert_int_eq(file_write_atomic_at(AT_FDCWD, path, large, sizeof(large) - 1, 0600), 0);
	ck_assert_int_eq(accel_record_read(dir, &r), 0);
	ck_assert_str_eq(r.why, "it hung");
}
END_TEST

START_TEST(test_odd_values)
{
	static const struct {
		const char *from;
		const char *to;
	} changes[] = {
		{ "\"tcg\"", "\"auto\"" },
		{ "\"tcg\"", "true" },
		{ "\"tcg\"", "\"kvmkvmkvm\"" },
		{ "\"it hung\"", "7" },
		{ "it hung", "it\\nhung" },
		{ "it hung", "it h\\u00fcng" },
		{ "\"b\"", "null" },
		{ "\"boot_id\"", "\"boot\"" },
		{ "\"c\"", "[\"c\"]" },
		{ "it hung", "it\\u0000hung" },
	};
	auto_free char *long_why = str_printf("%0*d", ACCEL_WHY_SIZE, 0);
	auto_free char *too_long = spoiled("it hung", long_why);
	struct accel_record r;

	ck_assert_int_eq(accel_record_parse(text, strlen(text), &r), 0);
	ck_assert(!r.kvm);
	ck_assert_int_eq(accel_record_parse(too_long, strlen(too_long), &r), -EBADMSG);
	for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
		auto_free char *odd = spoiled(changes[i].from, changes[i].to);

		ck_assert_msg(accel_record_parse(odd, strlen(odd), &r) == -EBADMSG, "%s", odd);
	}
	for (size_t n = 0; n < strlen(text); n++)
		ck_assert_int_eq(accel_record_parse(text, n, &r), -EBADMSG);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("accel_record");
	TCase *tc = tcase_create("accel_record");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_round_trip);
	tcase_add_test(tc, test_longest);
	tcase_add_test(tc, test_key);
	tcase_add_test(tc, test_key_of_this_host);
	tcase_add_test(tc, test_useless_is_not_there);
	tcase_add_test(tc, test_odd_values);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
