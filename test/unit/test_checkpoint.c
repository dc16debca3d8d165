/* SPDX-License-Identifier: Apache-2.0 */
/* Directories of checkpoints: whole or not there, immutable, and told apart when damaged. */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "patience.h"
#include "sandbox/checkpoint.h"
#include "sandbox/images.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

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
				.cmdline = "console=ttyS0 quiet",
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

/* Member by member: what is between them is anything. */
static bool same(const struct checkpoint *a, const struct checkpoint *b)
{
	return a->generation == b->generation && a->parent == b->parent && a->kept == b->kept &&
	       a->created_ms == b->created_ms && a->cpus == b->cpus &&
	       a->memory_mib == b->memory_mib && a->disk_mib == b->disk_mib &&
	       streq(a->vmm, b->vmm) && streq(a->cpu, b->cpu) &&
	       streq(a->acceleration, b->acceleration) && streq(a->disk_driver, b->disk_driver) &&
	       streq(a->kernel_version, b->kernel_version) &&
	       streq(a->agent_version, b->agent_version) && streq(a->initramfs, b->initramfs) &&
	       streq(a->start, b->start) && streq(a->cmdline, b->cmdline) &&
	       a->image_id == b->image_id && a->devices_bytes == b->devices_bytes &&
	       a->devices_sum == b->devices_sum &&
	       memcmp(&a->memory, &b->memory, sizeof(a->memory)) == 0;
}

START_TEST(test_reads_what_was_written)
{
	struct checkpoint c = make(3, true);
	struct checkpoint again = { 0 };

	opens(3, &again);
	ck_assert(same(&c, &again));
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

/* Each byte of a manifest counts. */
START_TEST(test_each_byte_of_a_manifest)
{
	auto_buf text = BUF_INIT(65536);
	struct checkpoint c;

	make(1, false);
	ck_assert_int_eq(file_read_at(owner, "checkpoints/1/manifest.json", &text), 0);
	ck_assert_int_eq(checkpoint_parse(buf_str(&text), text.len, &c), 0);
	for (size_t i = 0; i < text.len; i++) {
		buf_head(&text)[i] ^= 1;
		ck_assert_msg(checkpoint_parse(buf_str(&text), text.len, &c) == -EBADMSG,
			      "byte %zu of %s", i, buf_str(&text));
		buf_head(&text)[i] ^= 1;
	}
	ck_assert_int_eq(checkpoint_parse(buf_str(&text), text.len - 1, &c), -EBADMSG);
}
END_TEST

/* Those that were written before there was a digest. */
START_TEST(test_manifest_of_version_1)
{
	static const char text[] =
		"{\"version\": 1, \"generation\": 4, \"parent\": 2, \"createdMs\": 1, \"cpus\": 1,"
		" \"memoryMiB\": 64, \"diskMiB\": 64, \"devicesBytes\": 0, \"vmm\": \"v\","
		" \"cpu\": \"c\", \"acceleration\": \"tcg\", \"diskDriver\": \"qcow2\","
		" \"kernel\": \"k\", \"agent\": \"a\", \"image\": \"0000000000000000\","
		" \"devicesSum\": \"0000000000000000\", \"memory\": {\"ownedPages\": 0,"
		" \"storedPages\": 0, \"zeroPages\": 0, \"fileBytes\": 1}}";
	auto_free char *newer = str_dup(text);
	struct checkpoint c;

	ck_assert_int_eq(checkpoint_parse(text, strlen(text), &c), 0);
	ck_assert_uint_eq(c.generation, 4);
	*strchr(newer, '1') = '2';
	ck_assert_int_eq(checkpoint_parse(newer, strlen(newer), &c), -EBADMSG);
}
END_TEST

enum { IMAGE_MIB = 3 };

/* An image with holes, under its right name. */
static uint64_t make_image(void)
{
	auto_close int fd = openat(owner, "image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	unsigned char *bytes = xcalloc(IMAGE_MIB, 1 << 20);
	uint64_t id;

	ck_assert_int_eq(ftruncate(fd, IMAGE_MIB << 20), 0);
	for (size_t i = 0; i < 300000; i++)
		bytes[(1 << 20) + i] = (unsigned char)(i * 7);
	ck_assert_int_eq(pwrite(fd, bytes + (1 << 20), 300000, 1 << 20), 300000);
	id = XXH3_64bits(bytes, IMAGE_MIB << 20);
	free(bytes);
	ck_assert_int_eq(image_name(owner, "image", id), 0);
	return id;
}

static void flip(uint64_t id, off_t at, bool keep_times)
{
	auto_free char *name = str_printf("image-%016jx", (uintmax_t)id);
	auto_close int fd = openat(owner, name, O_RDWR | O_CLOEXEC);
	unsigned char byte;
	struct stat st;

	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
	byte ^= 0x10;
	ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
	if (keep_times)
		ck_assert_int_eq(futimens(fd, (struct timespec[]){ st.st_atim, st.st_mtim }), 0);
}

static void expect_image(struct known_images *known, uint64_t id, const char *why)
{
	struct op op = new_op();
	int r = image_check(known, owner, id, &op);

	ck_assert_msg((r == 0) == (why == NULL), "%d %s", r, op.err.msg);
	if (why == NULL)
		return;
	ck_assert_int_eq(op.err.kind, ERR_INVALID);
	ck_assert_msg(strstr(op.err.msg, why) != NULL && strstr(op.err.msg, root) != NULL, "%s",
		      op.err.msg);
}

/* In data and in a hole; whoever knows the file reads it again only when it was written to, and who
 * does not reads it in any case. */
START_TEST(test_damaged_image)
{
	static const off_t at[] = { 0, (1 << 20) + 4711, (IMAGE_MIB << 20) - 1 };
	static struct known_images known;
	static struct known_images other;
	uint64_t id = make_image();

	expect_image(&known, id, NULL);
	flip(id, at[_i], false);
	expect_image(&known, id, "memory image is damaged");
	expect_image(&known, id, "memory image is damaged");
	flip(id, at[_i], false);
	expect_image(&known, id, NULL);
	flip(id, at[_i], true);
	expect_image(&known, id, NULL);
	expect_image(&other, id, "memory image is damaged");
}
END_TEST

START_TEST(test_image_that_is_not_there)
{
	static struct known_images known;
	struct op op = new_op();

	expect_image(&known, 0, NULL); /* none is needed */
	ck_assert_int_eq(image_check(&known, owner, 7, &op), -ENOENT);
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
	tcase_add_test(t, test_each_byte_of_a_manifest);
	tcase_add_test(t, test_manifest_of_version_1);
	tcase_add_loop_test(t, test_damaged_image, 0, 3);
	tcase_add_test(t, test_image_that_is_not_there);
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
