/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many layers become one: QEMU's tools write a chain, we merge it, and they find the same bytes and
 * nothing wrong.
 */
#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "disk/layers.h"
#include "os/spawn.h"
#include "patience.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1024 * 1024, BASE_MIB = 8, OUTPUT_MAX = 65536, PATH_SIZE = 128 };

static const struct disk_ops *ops;
static char root[] = "/tmp/viv-merge-XXXXXX";
static char base_path[PATH_SIZE];
static uint64_t disk_mib;
static unsigned seed = 1;

static unsigned pick(unsigned n)
{
	seed = seed * 1103515245 + 12345;
	return seed / 65536 % n;
}

static struct op new_op(void)
{
	struct op op;

	op_init(&op, patient_ms(60000), -1);
	return op;
}

/* Runs a tool in the root directory's world. Return: whether it found nothing wrong. */
static bool tool(const char *const *argv)
{
	auto_buf output = BUF_INIT(OUTPUT_MAX);
	struct op op = new_op();

	return spawn_run(argv, NULL, &output, &op) == 0 &&
	       strstr(buf_str(&output), "failed") == NULL;
}

static void io(const char *file, const char *command)
{
	const char *argv[] = { "qemu-io", "-f", "qcow2", "-c", command, file, NULL };

	ck_assert_msg(tool(argv), "%s: %s", file, command);
}

static int make_owner(const char *name)
{
	char path[PATH_SIZE];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", root, name);
	ck_assert_int_eq(mkdir(path, 0700), 0);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static void setup(void)
{
	static char chunk[MIB];
	auto_close int fd = -1;

	ck_assert_ptr_nonnull(mkdtemp(root));
	snprintf(base_path, sizeof(base_path), "%s/root.img", root);
	fd = open(base_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
	memset(chunk, 0x11, sizeof(chunk));
	for (int i = 0; i < BASE_MIB; i++)
		ck_assert_int_eq(fd_write_all(fd, chunk, sizeof(chunk)), 0);
	ops = disk_driver(NULL);
	disk_mib = 64;
}

static void teardown(void)
{
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, root), 0);
}

static struct disk_spec spec_of(int dirfd)
{
	return (struct disk_spec){ .dirfd = dirfd,
				   .base_path = base_path,
				   .size_bytes = disk_mib * MIB };
}

static void file_of(char out[PATH_SIZE], const char *owner, unsigned number)
{
	snprintf(out, PATH_SIZE, "%s/%s/layer/%u.qcow2", root, owner, number);
}

/* Bytes, zeros and holes at random places, some of them across clusters. */
static void scribble(const char *file)
{
	char command[PATH_SIZE];

	for (int i = 0; i < 4; i++) {
		unsigned at_kib = pick((unsigned)disk_mib * 1024 - 512) / 4 * 4;

		if (i % 4 == 3)
			snprintf(command, sizeof(command), "write -z%s %uk %uk",
				 pick(2) > 0 ? " -u" : "", at_kib / 64 * 64, 64 + 64 * pick(5));
		else
			snprintf(command, sizeof(command), "write -P %u %uk %uk", 1 + pick(255),
				 at_kib, 4 + 4 * pick(100));
		io(file, command);
	}
	snprintf(command, sizeof(command), "write -z %uk 64k", 64 * pick(BASE_MIB * 16));
	io(file, command); /* zeros over the base's bytes */
}

/* A disk of @n layers. Return: its owner's descriptor. */
static int make_chain(const char *owner, unsigned n)
{
	int dirfd = make_owner(owner);
	struct disk_spec spec = spec_of(dirfd);
	struct op op = new_op();
	char file[PATH_SIZE];

	ck_assert_msg(disk_create(ops, &spec, &op) == 0, "%s", op.err.msg);
	for (unsigned i = 0; i < n; i++) {
		if (i > 0)
			ck_assert_msg(disk_extend(ops, &spec, &op) == 0, "%s", op.err.msg);
		file_of(file, owner, i);
		scribble(file);
	}
	return dirfd;
}

/* What a disk reads as, byte for byte. */
static void flatten(const char *file, const char *out)
{
	const char *argv[] = { "qemu-img", "convert", "-f", "qcow2", "-O", "raw", file, out, NULL };

	ck_assert(tool(argv));
}

static void compare(const char *file, const char *raw)
{
	const char *same[] = { "qemu-img", "compare", "-f", "qcow2", "-F", "raw", file, raw, NULL };
	const char *check[] = { "qemu-img", "check", "-f", "qcow2", file, NULL };

	ck_assert_msg(tool(same), "%s differs", file);
	ck_assert_msg(tool(check), "%s is not clean", file);
}

static void merge_ok(int dirfd)
{
	struct disk_spec spec = spec_of(dirfd);
	struct op op = new_op();

	ck_assert_msg(disk_merge(ops, &spec, &op) == 0, "%s", op.err.msg);
	ck_assert_uint_eq(disk_layers(ops, dirfd), 1);
	ck_assert_int_lt(faccessat(dirfd, "layer/layer.tmp", F_OK, 0), 0);
}

/* Refused, and everything is as it was. */
static struct err merge_refused(int dirfd, struct op op)
{
	struct disk_spec spec = spec_of(dirfd);
	size_t before = disk_layers(ops, dirfd);

	ck_assert_int_lt(disk_merge(ops, &spec, &op), 0);
	ck_assert_uint_eq(disk_layers(ops, dirfd), before);
	ck_assert_int_lt(faccessat(dirfd, "layer/layer.tmp", F_OK, 0), 0);
	return op.err;
}

/* Written out by us, it is what qemu-img makes of it, and as sparse. */
static void export_ok(int dirfd, const char *raw)
{
	struct disk_spec spec = spec_of(dirfd);
	struct op op = new_op();
	char out[PATH_SIZE];
	auto_close int fd = -1;
	struct stat st;

	snprintf(out, sizeof(out), "%s/exported", root);
	fd = open(out, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	ck_assert_msg(disk_export(ops, &spec, fd, &op) == 0, "%s", op.err.msg);
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, disk_mib << 20);
	ck_assert_uint_lt((uint64_t)st.st_blocks * 512, disk_mib << 20);
	ck_assert(tool((const char *const[]){ "cmp", raw, out, NULL }));
}

START_TEST(test_reads_as_before)
{
	static const uint64_t sizes_mib[] = { 64, 64, 1600, 8 };
	static const unsigned layers[] = { 2, 15, 5, 3 };
	auto_close int dirfd = -1;
	char top[PATH_SIZE];
	char raw[PATH_SIZE];
	char base[PATH_SIZE];

	seed = (unsigned)_i + 1;
	disk_mib = sizes_mib[_i];
	dirfd = make_chain("one", layers[_i]);
	file_of(top, "one", layers[_i] - 1);
	snprintf(raw, sizeof(raw), "%s/raw", root);
	flatten(top, raw);
	export_ok(dirfd, raw);
	merge_ok(dirfd);
	compare(top, raw);
	export_ok(dirfd, raw);
	ck_assert_int_eq(disk_base(dirfd, base, sizeof(base)), 1);
	ck_assert_ptr_nonnull(strstr(base, "root.img"));
	merge_ok(dirfd); /* of one there is nothing to merge */
	compare(top, raw);
}
END_TEST

/* More clusters than one refcount block counts, and a guest that wrote all of a part. */
START_TEST(test_large)
{
	auto_close int dirfd = -1;
	char top[PATH_SIZE];
	char raw[PATH_SIZE];

	disk_mib = 2600;
	dirfd = make_chain("one", 2);
	file_of(top, "one", 1);
	io(top, "write -P 0x5a 100M 700M");
	snprintf(raw, sizeof(raw), "%s/raw", root);
	flatten(top, raw);
	merge_ok(dirfd);
	compare(top, raw);
}
END_TEST

/* Killed between any two steps: the disk reads as before, and is merged the next time. */
START_TEST(test_killed_meanwhile)
{
	auto_close int dirfd = make_chain("one", 4);
	struct disk_spec spec = spec_of(dirfd);
	struct disk disk = { .n = 0 };
	struct op op = new_op();
	char top[PATH_SIZE];
	char raw[PATH_SIZE];
	char lower[3][PATH_SIZE];
	char aside[3][PATH_SIZE];

	file_of(top, "one", 3);
	snprintf(raw, sizeof(raw), "%s/raw", root);
	flatten(top, raw);
	for (unsigned i = 0; i < 3; i++) {
		file_of(lower[i], "one", i);
		snprintf(aside[i], sizeof(aside[i]), "%s/aside-%u", root, i);
		ck_assert_int_eq(link(lower[i], aside[i]), 0);
	}
	merge_ok(dirfd);
	for (unsigned i = 0; i < 3; i++) { /* the lowest was to go last */
		ck_assert_int_eq(link(aside[i], lower[i]), 0);
		ck_assert_uint_eq(disk_layers(ops, dirfd), 2 + i);
		compare(top, raw);
		ck_assert_msg(disk_open(ops, &spec, &disk, &op) == 0, "%s", op.err.msg);
		ck_assert_uint_eq(disk.n, 2); /* it, and the base */
		disk_done(&disk);
	}
	ck_assert_int_eq(symlinkat("x", dirfd, "layer/layer.tmp"), 0);
	merge_ok(dirfd);
	compare(top, raw);
}
END_TEST

START_TEST(test_others_keep_their_layers)
{
	auto_close int dirfd = make_chain("one", 5);
	auto_close int child = make_owner("child");
	struct op op = new_op();
	char top[PATH_SIZE];
	char childs[PATH_SIZE];
	char raw[PATH_SIZE];

	file_of(top, "one", 4);
	file_of(childs, "child", 4);
	snprintf(raw, sizeof(raw), "%s/raw", root);
	flatten(top, raw);
	ck_assert_int_eq(disk_link(dirfd, child, &op), 0);
	merge_ok(dirfd);
	ck_assert_uint_eq(disk_layers(ops, child), 5);
	compare(childs, raw);
	ck_assert_int_eq(disk_release(ops, dirfd, &op), 0);
	compare(childs, raw);
}
END_TEST

/* The layers below are of a disk that was smaller; those above use what came to it. */
START_TEST(test_a_disk_that_grew)
{
	auto_close int dirfd = make_chain("one", 3);
	auto_close int child = make_owner("child");
	cleanup(disk_done) struct disk disk = { .n = 0 };
	struct op op = new_op();
	struct disk_spec spec;
	char file[PATH_SIZE];
	char raw[PATH_SIZE];

	disk_mib = 1200; /* three entries of the L1 table instead of one */
	spec = spec_of(child);
	ck_assert_msg(disk_clone(ops, dirfd, &spec, &op) == 0, "%s", op.err.msg);
	file_of(file, "child", 3);
	scribble(file);
	io(file, "write -P 7 1199M 1M");
	ck_assert_msg(disk_open(ops, &spec, &disk, &op) == 0, "%s", op.err.msg);
	ck_assert_uint_eq(disk.n, 5);
	snprintf(raw, sizeof(raw), "%s/raw", root);
	flatten(file, raw);
	merge_ok(child);
	ck_assert_uint_eq(disk_layers(ops, child), 1);
	compare(file, raw);
}
END_TEST

/* Each generation is a clone of the one before, which goes: there is always room for one more. */
START_TEST(test_generation_100)
{
	char raw[PATH_SIZE];
	char owner[16] = "g0";
	unsigned number = 0;
	int dirfd = make_chain(owner, 1);

	snprintf(raw, sizeof(raw), "%s/raw", root);
	for (unsigned i = 1; i <= 100; i++) {
		char next[16];
		char file[PATH_SIZE];
		int child;
		struct disk_spec spec;
		struct op op = new_op();

		snprintf(next, sizeof(next), "g%u", i);
		child = make_owner(next);
		spec = spec_of(child);
		ck_assert_msg(disk_clone(ops, dirfd, &spec, &op) == 0, "%s", op.err.msg);
		ck_assert_uint_lt(disk_layers(ops, child), DISK_CHAIN_MAX);
		file_of(file, next, ++number);
		if (i % 10 == 0)
			scribble(file);
		ck_assert_int_eq(disk_release(ops, dirfd, &op), 0);
		close(dirfd);
		dirfd = child;
		if (i == 50) {
			flatten(file, raw);
		} else if (i == 59) {
			compare(file, raw); /* 9 clones and no write later, merged or not */
		}
	}
	merge_ok(dirfd);
	close(dirfd);
}
END_TEST

static int begin(int dirfd, struct disk_merge *m)
{
	struct disk_spec spec = spec_of(dirfd);
	struct op op = new_op();
	int r = disk_merge_begin(ops, &spec, 1, m, &op);

	ck_assert_msg(r >= 0, "%s", op.err.msg);
	return r;
}

static int end(int dirfd, struct disk_merge *m)
{
	struct disk_spec spec = spec_of(dirfd);
	struct op op = new_op();
	int r = disk_merge_end(ops, &spec, m, &op);

	ck_assert_msg(r >= 0, "%s", op.err.msg);
	ck_assert_int_eq(m->fd, -1);
	return r;
}

/* The top layer is a VM's: it stays, and those below it become fewer. */
START_TEST(test_merged_below_a_vm)
{
	auto_close int dirfd = make_chain("one", 12);
	struct disk_merge m = DISK_MERGE_INIT;
	struct disk_spec spec = spec_of(dirfd);
	struct disk disk = { .n = 0 };
	struct op op = new_op();
	size_t left;
	struct stat before;
	struct stat after;
	char top[PATH_SIZE];
	char low[PATH_SIZE];
	char aside[PATH_SIZE];
	char raw[PATH_SIZE];

	file_of(top, "one", 11);
	file_of(low, "one", 9);
	snprintf(raw, sizeof(raw), "%s/raw", root);
	snprintf(aside, sizeof(aside), "%s/aside", root);
	flatten(top, raw);
	ck_assert_int_eq(link(low, aside), 0);
	ck_assert_int_eq(stat(top, &before), 0);
	ck_assert_int_eq(begin(dirfd, &m), 1);
	ck_assert_uint_eq(disk_layers(ops, dirfd), 12);
	compare(top, raw);
	ck_assert_int_eq(end(dirfd, &m), 1);
	left = disk_layers(ops, dirfd);
	ck_assert_uint_lt(left, 12);
	ck_assert_int_eq(stat(top, &after), 0);
	ck_assert_uint_eq(before.st_ino, after.st_ino);
	compare(top, raw);
	file_of(top, "one", 10);
	ck_assert_int_lt(access(low, F_OK), 0);
	/* Killed before the last of them was removed: it is passed by, and goes with the next. */
	ck_assert_int_eq(rename(aside, low), 0);
	ck_assert_msg(disk_open(ops, &spec, &disk, &op) == 0, "%s", op.err.msg);
	ck_assert_uint_eq(disk.n, left + 1);
	disk_done(&disk);
	ck_assert_int_eq(end(dirfd, &m), 0);
	ck_assert_uint_eq(disk_layers(ops, dirfd), left);
	file_of(top, "one", 11);
	compare(top, raw);
	merge_ok(dirfd);
	compare(top, raw);
}
END_TEST

/* What was begun with is not there any more: it is dropped, and the disk is as it was. */
START_TEST(test_late_merge_is_dropped)
{
	auto_close int dirfd = make_chain("one", 12);
	auto_close int aside = make_owner("aside");
	struct disk_merge late = DISK_MERGE_INIT;
	struct disk_merge later = DISK_MERGE_INIT;
	struct disk_merge m = DISK_MERGE_INIT;
	struct op op = new_op();
	char top[PATH_SIZE];
	char raw[PATH_SIZE];

	file_of(top, "one", 11);
	snprintf(raw, sizeof(raw), "%s/raw", root);
	flatten(top, raw);
	ck_assert_int_eq(begin(dirfd, &late), 1);
	ck_assert_int_eq(begin(dirfd, &later), 1);
	ck_assert_int_eq(begin(dirfd, &m), 1);
	ck_assert_int_eq(end(dirfd, &m), 1);
	ck_assert_int_eq(end(dirfd, &late), 0); /* another one was quicker */
	compare(top, raw);
	ck_assert_int_eq(disk_link(dirfd, aside, &op), 0);
	ck_assert_int_eq(disk_release(ops, dirfd, &op), 0);
	ck_assert_int_eq(disk_link(aside, dirfd, &op), 0);
	ck_assert_int_eq(end(dirfd, &later), 0); /* another directory */
	compare(top, raw);
	disk_merge_done(&later);
}
END_TEST

/* Few are let be; many become a ladder, and the biggest are let be as long as they can. */
START_TEST(test_choice)
{
	static const uint64_t equal[8] = { 9, 1, 1, 1, 1, 1, 1, 1 };
	static const uint64_t big_below[9] = { 9, 1, 1, 1, 1, 1, 1, 1, 100 };
	static const uint64_t ladder[14] = { 0,  1,   2,   4,   8,    16,   32,
					     64, 128, 256, 512, 1024, 2048, 4096 };

	ck_assert_uint_eq(layers_choose(equal, 7, 1), 0);
	ck_assert_uint_eq(layers_choose(equal, 8, 1), 7);
	ck_assert_uint_eq(layers_choose(equal, 8, 2), 6);
	ck_assert_uint_eq(layers_choose(equal, 8, 8), 0);
	ck_assert_uint_eq(layers_choose(big_below, 9, 1), 7);
	ck_assert_uint_eq(layers_choose(ladder, 13, 1), 0);
	ck_assert_uint_eq(layers_choose(ladder, 14, 1), 4);
}
END_TEST

START_TEST(test_what_we_do_not_write_is_refused)
{
	auto_close int dirfd = make_chain("one", 2);
	char top[PATH_SIZE];
	char other[PATH_SIZE];
	const char *snapshot[] = { "qemu-img", "snapshot", "-c", "x", top, NULL };
	const char *compress[] = { "qemu-img", "convert", "-c", "-f",  "qcow2", "-O",  "qcow2",
				   "-B",       base_path, "-F", "raw", top,     other, NULL };

	file_of(top, "one", 1);
	snprintf(other, sizeof(other), "%s/other", root);
	io(top, "write -P 7 20M 1M");
	ck_assert(tool(compress));
	ck_assert(tool(snapshot));
	ck_assert_ptr_nonnull(strstr(merge_refused(dirfd, new_op()).msg, "snapshots"));
	ck_assert_int_eq(rename(other, top), 0);
	ck_assert_ptr_nonnull(strstr(merge_refused(dirfd, new_op()).msg, "compressed"));
}
END_TEST

static uint64_t peek(int fd, uint64_t off_bytes)
{
	uint64_t n;

	ck_assert_int_eq(pread(fd, &n, sizeof(n), (off_t)off_bytes), sizeof(n));
	return be64toh(n);
}

static void poke(int fd, uint64_t off_bytes, uint64_t value)
{
	uint64_t n = htobe64(value);

	ck_assert_int_eq(pwrite(fd, &n, sizeof(n), (off_t)off_bytes), sizeof(n));
}

/* A guest's VMM may have written anything. */
START_TEST(test_wild_offsets)
{
	static const uint64_t wild[] = { 1ULL << 63 | 1ULL << 40, 0x10200, 0x00fffffffffffe00,
					 0x00ffffffffff0000 };
	auto_close int dirfd = make_chain("one", 3);
	auto_close int fd = -1;
	char file[PATH_SIZE];
	uint64_t l1;
	uint64_t entry;

	file_of(file, "one", 1);
	fd = open(file, O_RDWR | O_CLOEXEC);
	l1 = peek(fd, 40);
	entry = peek(fd, l1);
	ck_assert_uint_ne(entry, 0);
	for (size_t i = 0; i < ARRAY_SIZE(wild); i++) {
		poke(fd, l1, wild[i]); /* an L2 table elsewhere */
		merge_refused(dirfd, new_op());
		poke(fd, l1, entry);
		poke(fd, 40, wild[i]); /* the L1 table elsewhere */
		merge_refused(dirfd, new_op());
		poke(fd, 40, l1);
		for (unsigned j = 0; j < 1024;
		     j++) /* a cluster elsewhere, of all that the base had */
			poke(fd, (entry & 0x00fffffffffffe00) + 8 * j, wild[i]);
		merge_refused(dirfd, new_op());
	}
	poke(fd, 36, 0); /* size of the L1 table and its crypt_method */
	merge_refused(dirfd, new_op());
}
END_TEST

/* A layer in between is gone: what is above it means nothing, and nobody reads or merges it. */
START_TEST(test_gap)
{
	auto_close int dirfd = make_chain("one", 3);
	struct disk_spec spec = spec_of(dirfd);
	struct disk disk = { .n = 0 };
	struct op op = new_op();
	char file[PATH_SIZE];

	file_of(file, "one", (unsigned)_i);
	ck_assert_int_eq(unlink(file), 0);
	ck_assert_int_lt(disk_open(ops, &spec, &disk, &op), 0);
	snprintf(file, sizeof(file), "layer/%d.qcow2 is missing", _i);
	ck_assert_msg(strstr(op.err.msg, file) != NULL, "%s", op.err.msg);
	ck_assert_ptr_nonnull(strstr(merge_refused(dirfd, new_op()).msg, file));
}
END_TEST

START_TEST(test_cancel)
{
	auto_close int dirfd = make_chain("one", 3);
	auto_close int cancel = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
	struct op op;

	op_init(&op, 0, cancel);
	ck_assert_int_eq(merge_refused(dirfd, op).kind, ERR_CANCELLED);
	merge_ok(dirfd);
}
END_TEST

START_TEST(test_full_host_disk)
{
	auto_close int dirfd = -1;
	char where[PATH_SIZE];

	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		ck_abort_msg("needs root: a mount namespace for a small file system");
	snprintf(where, sizeof(where), "%s/small", root);
	ck_assert_int_eq(mkdir(where, 0700), 0);
	ck_assert_int_eq(mount("viv-test", where, "tmpfs", 0, "size=6m"), 0);
	dirfd = make_chain("small/one", 3);
	file_of(where, "small/one", 2);
	io(where, "write -P 3 9M 3M");
	ck_assert_int_eq(merge_refused(dirfd, new_op()).kind, ERR_EXHAUSTED);
	io(where, "read -P 3 9M 3M");
	fd_close(&dirfd);
	snprintf(where, sizeof(where), "%s/small", root);
	ck_assert_int_eq(umount(where), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("disk merge");
	TCase *t = tcase_create("merge");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 120);
	tcase_add_loop_test(t, test_reads_as_before, 0, 4);
	tcase_add_test(t, test_large);
	tcase_add_test(t, test_killed_meanwhile);
	tcase_add_test(t, test_others_keep_their_layers);
	tcase_add_test(t, test_a_disk_that_grew);
	tcase_add_test(t, test_generation_100);
	tcase_add_test(t, test_merged_below_a_vm);
	tcase_add_test(t, test_late_merge_is_dropped);
	tcase_add_test(t, test_choice);
	tcase_add_test(t, test_what_we_do_not_write_is_refused);
	tcase_add_test(t, test_wild_offsets);
	tcase_add_loop_test(t, test_gap, 0, 2);
	tcase_add_test(t, test_cancel);
	tcase_add_test(t, test_full_host_disk);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
