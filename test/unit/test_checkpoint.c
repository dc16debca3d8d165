/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of checkpoints: whole or not there, immutable, and told apart when damaged. */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "patience.h"
#include "sandbox/checkpoint.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[] = "/tmp/viv-checkpoint-XXXXXX";
static int owner = -1;

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(root));
	owner = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static void teardown(void)
{
	fd_close(&owner);
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, root), 0);
}

static struct op new_op(void)
{
	struct op op;

	op_init(&op, patient_ms(60000), -1);
	return op;
}

static void put(int dirfd, const char *name, const char *text)
{
	auto_close int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(fd_write_all(fd, text, strlen(text)), 0);
}

/* An image of the memory that the checkpoint says. */
static void put_image(int dirfd, const char *name, uint64_t memory_mib)
{
	auto_close int fd = openat(dirfd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)(memory_mib << 20)), 0);
}

static struct checkpoint make(uint64_t generation, bool kept)
{
	struct checkpoint c = { .generation = generation,
				.parent = generation - 1,
				.kept = kept,
				.created_ms = 1700000000123,
				.cpus = 2,
				.memory_mib = 256,
				.disk_mib = 1024,
				.vmm = "qemu 7.2.9",
				.cpu = "one \"CPU\"",
				.acceleration = "tcg",
				.disk_driver = "qcow2",
				.kernel_version = "6.1.0",
				.agent_version = "0.1",
				.image_id = 0xfedcba9876543210,
				.memory = { 10, 8, 1, strlen("memory") } };
	struct op op = new_op();
	auto_close int fd = checkpoint_begin(owner, &op);

	ck_assert_msg(fd >= 0, "%s", op.err.msg);
	put(fd, "devices", "devices");
	put(fd, "memory", "memory");
	put_image(fd, "image-fedcba9876543210", c.memory_mib);
	ck_assert_int_eq(checkpoint_sum_devices(fd, &c.devices_bytes, &c.devices_sum), 0);
	ck_assert_msg(checkpoint_commit(owner, fd, &c, &op) == 0, "%s", op.err.msg);
	return c;
}

static void opens(uint64_t generation, struct checkpoint *out)
{
	struct op op = new_op();
	int fd = checkpoint_open(owner, generation, out, &op);

	ck_assert_msg(fd >= 0, "%s", op.err.msg);
	close(fd);
}

static void refused(uint64_t generation, enum err_kind kind, const char *why)
{
	struct checkpoint c;
	struct op op = new_op();

	ck_assert_int_lt(checkpoint_open(owner, generation, &c, &op), 0);
	ck_assert_int_eq(op.err.kind, kind);
	ck_assert_msg(strstr(op.err.msg, why) != NULL, "no '%s' in: %s", why, op.err.msg);
}

static size_t count(void)
{
	struct generations all = { 0 };
	struct op op = new_op();
	size_t n;

	ck_assert_int_eq(checkpoint_list(owner, &all, &op), 0);
	n = all.n;
	for (size_t i = 1; i < n; i++)
		ck_assert_uint_lt(all.at[i - 1], all.at[i]);
	generations_done(&all);
	return n;
}

START_TEST(test_reads_what_was_written)
{
	struct checkpoint c = make(3, true);
	struct checkpoint again = { 0 };

	opens(3, &again);
	ck_assert_int_eq(memcmp(&c, &again, sizeof(c)), 0);
	refused(2, ERR_NOT_FOUND, "no checkpoint 2");
}
END_TEST

START_TEST(test_unfinished)
{
	struct op op = new_op();
	struct stat st;
	int fd;

	ck_assert_int_eq(checkpoint_abort(owner, &op), 0); /* absent = success */
	fd = checkpoint_begin(owner, &op);
	put(fd, "memory", "half");
	close(fd);
	ck_assert_uint_eq(count(), 0);
	fd = checkpoint_begin(owner, &op); /* of a daemon that was started again */
	ck_assert_int_eq(fstatat(fd, "memory", &st, 0), -1);
	close(fd);
	ck_assert_int_eq(checkpoint_abort(owner, &op), 0);
	ck_assert_int_eq(fstatat(owner, "checkpoints", &st, 0), -1); /* as if it never was */
}
END_TEST

/* One that is there is never replaced. */
START_TEST(test_same_generation)
{
	struct checkpoint c = make(1, false);
	struct op op = new_op();
	auto_close int fd = checkpoint_begin(owner, &op);

	put(fd, "devices", "other");
	put(fd, "memory", "other");
	ck_assert_int_lt(checkpoint_commit(owner, fd, &c, &op), 0);
	opens(1, &c);
	op = new_op();
	ck_assert_int_eq(checkpoint_abort(owner, &op), 0);
	opens(1, &c);
}
END_TEST

START_TEST(test_damage_is_named)
{
	static const struct {
		const char *file;
		const char *why;
		bool is_cut; /* else of another size, or with other bytes */
	} cases[] = { { "manifest.json", "manifest.json", true },
		      { "devices", "file devices", true },
		      { "devices", "file devices is damaged", false },
		      { "memory", "file memory", true },
		      { "memory", "file memory has another size", false },
		      { "image-fedcba9876543210", "memory image", true },
		      { "image-fedcba9876543210", "memory image has another size", false } };
	auto_close int fd = -1;

	make(1, false);
	make(2, false);
	fd = openat(owner, "checkpoints/2", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (cases[_i].is_cut)
		ck_assert_int_eq(unlinkat(fd, cases[_i].file, 0), 0);
	else
		put(fd, cases[_i].file, "devicer and more");
	refused(2, ERR_INVALID, cases[_i].why);
	refused(2, ERR_INVALID, "checkpoints/2");
	opens(1, &(struct checkpoint){ 0 });
}
END_TEST

/* A directory under another's name is not it. */
START_TEST(test_renamed)
{
	make(1, false);
	ck_assert_int_eq(renameat(owner, "checkpoints/1", owner, "checkpoints/5"), 0);
	refused(5, ERR_INVALID, "manifest.json");
}
END_TEST

START_TEST(test_tidy)
{
	struct op op = new_op();
	struct stat st;

	ck_assert_int_eq(checkpoint_tidy(owner, 1, &op), 0); /* nothing at all */
	make(1, false);
	make(2, true);
	make(3, false);
	make(4, false);
	make(5, false);
	make(6, false);
	put(owner, "checkpoints/3/manifest.json", "{");
	ck_assert_int_eq(renameat(owner, "checkpoints/4", owner, "checkpoints/gone-4"), 0);
	ck_assert_int_eq(checkpoint_tidy(owner, 5, &op), 0);
	ck_assert_uint_eq(count(), 3);
	opens(2, &(struct checkpoint){ 0 });                          /* kept */
	ck_assert_int_eq(fstatat(owner, "checkpoints/3", &st, 0), 0); /* nobody knows what it is */
	opens(5, &(struct checkpoint){ 0 });
	ck_assert_int_eq(fstatat(owner, "checkpoints/6", &st, 0), -1); /* a newer one, too */
	ck_assert_int_eq(fstatat(owner, "checkpoints/gone-4", &st, 0), -1);
}
END_TEST

START_TEST(test_remove)
{
	struct op op = new_op();

	make(1, false);
	ck_assert_int_eq(checkpoint_remove(owner, 1, &op), 0);
	ck_assert_int_eq(checkpoint_remove(owner, 1, &op), 0);
	ck_assert_uint_eq(count(), 0);
}
END_TEST

START_TEST(test_images)
{
	auto_close int other = -1;
	struct stat one;
	struct stat two;
	uint64_t id = 0;

	ck_assert_int_eq(image_find(owner, &id), 0);
	put(owner, "image-00000000000000ab", "image");
	put(owner, "image-xyz", "no image");
	ck_assert_int_eq(image_find(owner, &id), 1);
	ck_assert_uint_eq(id, 0xab);
	ck_assert_int_eq(mkdirat(owner, "other", 0700), 0);
	other = openat(owner, "other", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(image_link(owner, other, 0), 0);
	ck_assert_int_eq(image_find(other, &id), 0);
	ck_assert_int_eq(image_link(owner, other, 0xab), 0);
	ck_assert_int_eq(image_link(owner, other, 0xab), 0);
	ck_assert_int_eq(fstatat(owner, "image-00000000000000ab", &one, 0), 0);
	ck_assert_int_eq(fstatat(other, "image-00000000000000ab", &two, 0), 0);
	ck_assert_uint_eq(one.st_ino, two.st_ino);
	ck_assert_int_eq(image_open(other, 0xcd), -ENOENT);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("checkpoint");
	TCase *t = tcase_create("directories");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_reads_what_was_written);
	tcase_add_test(t, test_unfinished);
	tcase_add_test(t, test_same_generation);
	tcase_add_loop_test(t, test_damage_is_named, 0, 7);
	tcase_add_test(t, test_renamed);
	tcase_add_test(t, test_tidy);
	tcase_add_test(t, test_remove);
	tcase_add_test(t, test_images);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
