/* SPDX-License-Identifier: Apache-2.0 */
/* Memory diffs at their edges. The guest is a mapping of this process. */
#include "base/fd.h"
#include "base/str.h"
#include "patience.h"
#include "vmm/memfile-internal.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGES = 4096, BYTES = PAGES * RAM_PAGE_BYTES, IMAGE_ID = 7 };

static unsigned char *guest;
static int pidfd = -1;

static void setup(void)
{
	guest = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert(guest != MAP_FAILED);
	ck_assert_int_eq(madvise(guest, BYTES, MADV_NOHUGEPAGE), 0);
	pidfd = (int)syscall(SYS_pidfd_open, getpid(), 0);
	ck_assert_int_ge(pidfd, 0);
}

static void teardown(void)
{
	munmap(guest, BYTES);
	fd_close(&pidfd);
}

static struct ram ram_at(unsigned char *place)
{
	return (struct ram){
		.pid = getpid(), .pidfd = pidfd, .address = (uintptr_t)place, .bytes = BYTES
	};
}

static void fill(uint32_t page, uint32_t n, int byte)
{
	memset(guest + (size_t)page * RAM_PAGE_BYTES, byte, (size_t)n * RAM_PAGE_BYTES);
}

static struct op new_op(void)
{
	struct op op;

	op_init(&op, patient_ms(60000), -1);
	return op;
}

static const struct memory_image none = MEMORY_IMAGE_INIT;

/* A guest that began as an image whose pages are all 0x22. */
static struct memory_image begin_with_image(int *out_fd)
{
	static unsigned char page[RAM_PAGE_BYTES];
	struct memory_image image;
	struct err e = { 0 };
	int fd = memfd_create("image", MFD_CLOEXEC);

	memset(page, 0x22, sizeof(page));
	for (int i = 0; i < PAGES; i++)
		ck_assert_int_eq(fd_write_all(fd, page, sizeof(page)), 0);
	ck_assert_int_eq(memory_image_map(fd, IMAGE_ID, &image, &e), 0);
	ck_assert(mmap(guest, BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
		  guest);
	*out_fd = fd;
	return image;
}

static struct memory_stat save_ok(const struct memory_image *image, int fd)
{
	struct ram ram = ram_at(guest);
	struct memory_stat stat;
	struct op op = new_op();

	ck_assert_msg(memory_save(&ram, image, fd, &stat, &op) == 0, "%s", op.err.msg);
	ck_assert_uint_eq(stat.file_bytes, lseek(fd, 0, SEEK_END));
	ck_assert_msg(memory_verify(fd, BYTES, image->id, &op) == 0, "%s", op.err.msg);
	return stat;
}

/* Restored into a fresh mapping of the image, it is the guest; so is the image made of both. */
static void restores(const struct memory_image *image, int image_fd, int fd)
{
	int flags = MAP_PRIVATE | (image_fd < 0 ? MAP_ANONYMOUS : 0);
	unsigned char *again = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, flags, image_fd, 0);
	struct ram ram = ram_at(again);
	auto_close int merged = memfd_create("merged", MFD_CLOEXEC);
	struct op op = new_op();
	unsigned char *bytes;

	ck_assert_msg(memory_restore(&ram, image->id, fd, &op) == 0, "%s", op.err.msg);
	ck_assert_int_eq(memcmp(again, guest, BYTES), 0);
	munmap(again, BYTES);
	ck_assert_msg(memory_merge(image, fd, BYTES, merged, &op) == 0, "%s", op.err.msg);
	bytes = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, merged, 0);
	ck_assert(bytes != MAP_FAILED);
	ck_assert_int_eq(memcmp(bytes, guest, BYTES), 0);
	munmap(bytes, BYTES);
}

/* As viv-vmm-shim.so does it in a VMM. Return: whether this kernel can. */
static bool make_trackable(void)
{
	struct uffdio_api api = { .api = UFFD_API,
				  .features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | 1 << 15 };
	auto_close int fd =
		(int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0 || ioctl(fd, UFFDIO_API, &api) < 0) {
		printf("memfile: this kernel cannot track writes: all is copied at once\n");
		return false;
	}
	ck_assert_int_lt(fcntl(RAM_UFFD, F_GETFD), 0);
	ck_assert_int_eq(dup3(fd, RAM_UFFD, O_CLOEXEC), RAM_UFFD);
	return true;
}

/* Every way in which a page can become another than it was when it was copied. */
static void change_pages(int image_fd)
{
	auto_close int zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	struct ram ram = ram_at(guest);
	static unsigned char page[RAM_PAGE_BYTES] = "from elsewhere";
	struct ram_run run = { .first = 30, .n = 1 };
	struct err e = { 0 };

	guest[10 * RAM_PAGE_BYTES + 17] ^= 1; /* a byte of a page that was owned */
	fill(19, 2, 0x77);                    /* the last of some, and one that was not */
	fill(3000, 700, 0x55);                /* many that were not */
	fill(100, 1, 0);                      /* zeros */
	ck_assert_int_eq(read(zero, guest + 200 * RAM_PAGE_BYTES, RAM_PAGE_BYTES), RAM_PAGE_BYTES);
	ck_assert_int_eq(ram_write(&ram, &run, 1, page, &e), 0);
	ck_assert_int_eq(madvise(guest + 300 * RAM_PAGE_BYTES, RAM_PAGE_BYTES, MADV_DONTNEED), 0);
	ck_assert_int_eq(madvise(guest + 301 * RAM_PAGE_BYTES, RAM_PAGE_BYTES, MADV_DONTNEED), 0);
	guest[301 * RAM_PAGE_BYTES] = image_fd < 0 ? 9 : 8; /* gone, and there again */
}

/* What is saved of the guest, begun while it runs; copy: it goes on behind the copy. */
static struct memory_saving *begin_saving(int image_fd, int fd, bool copy)
{
	struct memory_image own = MEMORY_IMAGE_INIT;
	int own_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
	struct ram ram = ram_at(guest);
	struct memory_saving *s = NULL;
	struct op op = new_op();

	if (image_fd >= 0)
		ck_assert_int_eq(memory_image_map(image_fd, IMAGE_ID, &own, &op.err), 0);
	ck_assert_msg(memory_saving_new(&ram, &own, &own_fd, &s, &op) == 0, "%s", op.err.msg);
	ck_assert_ptr_null(own.bytes);
	ck_assert_int_eq(own_fd, -1);
	if (copy)
		ck_assert_msg(memory_saving_room(s, &op.err) == 0, "%s", op.err.msg);
	return s;
}

static struct memory_stat finish_saving(struct memory_saving *s, uint64_t image_id, int fd)
{
	struct memory_stat stat;
	struct op op = new_op();

	ck_assert_msg(memory_saving_finish(s, &stat, &op) == 0, "%s", op.err.msg);
	memory_saving_free(s);
	ck_assert_uint_eq(stat.file_bytes, lseek(fd, 0, SEEK_END));
	ck_assert_msg(memory_verify(fd, BYTES, image_id, &op) == 0, "%s", op.err.msg);
	return stat;
}

/* Returns how many of the pages were written to, as the scan says it in the end. */
static uint64_t save_while_changing(const struct memory_image *image, int image_fd, int fd,
				    bool copy)
{
	struct ram ram = ram_at(guest);
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	struct memory_saving *s;
	struct err e = { 0 };
	uint64_t written = 0;
	unsigned char was;

	fill(10, 10, 0x44);
	fill(25, 400, 0x45);
	fill(1000, 1000, 0x46);
	s = begin_saving(image_fd, fd, copy);
	change_pages(image_fd);
	ck_assert_int_eq(ram_scan(&ram, &runs, &e), 0);
	vec_foreach (run, &runs)
		written += run->written ? run->n : 0;
	if (copy)
		ck_assert_msg(memory_saving_copy(s, &e) == 0, "%s", e.msg);
	was = guest[10 * RAM_PAGE_BYTES];
	if (copy) /* it goes on */
		guest[10 * RAM_PAGE_BYTES] = 0xaa;
	finish_saving(s, image->id, fd);
	guest[10 * RAM_PAGE_BYTES] = was;
	return written;
}

/* As a daemon that was killed leaves it. */
static void track_and_vanish(void)
{
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	struct ram ram = ram_at(guest);
	auto_close int fd = -1;
	struct err e = { 0 };

	fill(12, 4, 0x43);
	ck_assert_int_eq(ram_track(&ram, &runs, &fd, &e), 1);
	ck_assert_uint_gt(ram_runs_pages(&runs), 0);
}

/* What is written while it changes is in the end what it is then, whatever came before. */
START_TEST(test_saving_of_what_changes)
{
	bool tracked = make_trackable();

	for (int round = 0; round < 4; round++) {
		auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
		uint64_t written;

		if (tracked && round == 2)
			track_and_vanish();
		written = save_while_changing(&none, -1, fd, round % 2 == 0);
		ck_assert_uint_gt(written, 700);
		ck_assert_uint_lt(written, tracked ? 720 : PAGES);
		restores(&none, -1, fd);
		fill(3000, 700, 0x54);
		ck_assert_int_eq(
			madvise(guest + 3000 * RAM_PAGE_BYTES, 700 * RAM_PAGE_BYTES, MADV_DONTNEED),
			0);
	}
}
END_TEST

START_TEST(test_saving_over_an_image)
{
	auto_close int image_fd = -1;
	cleanup(memory_image_done) struct memory_image image = begin_with_image(&image_fd);
	bool tracked = make_trackable();

	for (int copy = 0; copy < 2; copy++) {
		auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
		uint64_t written = save_while_changing(&image, image_fd, fd, copy == 1);

		ck_assert_uint_gt(written, 700);
		ck_assert_uint_lt(written, tracked ? 720 : PAGES);
		restores(&image, image_fd, fd);
		ck_assert_int_eq(madvise(guest, BYTES, MADV_DONTNEED), 0);
	}
}
END_TEST

/* What is in the file, and became again as the image has it, or was given back, is so restored. */
START_TEST(test_saving_of_what_comes_to_nothing)
{
	auto_close int image_fd = -1;
	cleanup(memory_image_done) struct memory_image image = begin_with_image(&image_fd);

	ignore_err(make_trackable());
	for (int of_image = 0; of_image < 2; of_image++) {
		auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
		const struct memory_image *began = of_image == 1 ? &image : &none;
		struct memory_saving *s;

		ck_assert(mmap(guest, BYTES, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_FIXED | (of_image == 1 ? 0 : MAP_ANONYMOUS),
			       of_image == 1 ? image_fd : -1, 0) == guest);
		fill(10, 10, 0x44);
		fill(30, 10, 0);
		s = begin_saving(of_image == 1 ? image_fd : -1, fd, false);
		fill(10, 3, of_image == 1 ? 0x22 : 0);
		fill(30, 3, 0x22);
		ck_assert_int_eq(
			madvise(guest + 15 * RAM_PAGE_BYTES, 3 * RAM_PAGE_BYTES, MADV_DONTNEED), 0);
		finish_saving(s, began->id, fd);
		restores(began, of_image == 1 ? image_fd : -1, fd);
	}
}
END_TEST

static void *stir(void *arg)
{
	const bool *ends = arg;

	for (unsigned byte = 0; !__atomic_load_n(ends, __ATOMIC_RELAXED); byte++)
		fill(byte % 7 * 500, 100, (int)(byte % 200));
	return NULL;
}

/* A guest that never ceases to write is saved all the same, as it is when it stands still. */
START_TEST(test_saving_of_a_busy_guest)
{
	auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
	struct memory_saving *s;
	struct memory_stat stat;
	bool ends = false;
	pthread_t thread;

	ignore_err(make_trackable());
	for (uint32_t page = 0; page < PAGES; page++)
		fill(page, 1, (int)(page % 250) + 1);
	ck_assert_int_eq(pthread_create(&thread, NULL, stir, &ends), 0);
	s = begin_saving(-1, fd, false);
	__atomic_store_n(&ends, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	stat = finish_saving(s, 0, fd);
	ck_assert_uint_eq(stat.owned_pages, PAGES);
	ck_assert_uint_lt(stat.stored_pages + stat.zero_pages, MEMORY_DIFF_PASSES_MAX * PAGES);
	restores(&none, -1, fd);
}
END_TEST

/* Nothing of the copy is lost when the room was too small for what came. */
START_TEST(test_room_grows)
{
	auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
	struct memory_saving *s;
	struct err e = { 0 };

	ignore_err(make_trackable());
	s = begin_saving(-1, fd, true);
	for (uint32_t page = 0; page < PAGES; page++)
		fill(page, 1, (int)(page % 249) + 2);
	ck_assert_msg(memory_saving_copy(s, &e) == 0, "%s", e.msg);
	ck_assert_uint_eq(finish_saving(s, 0, fd).stored_pages, PAGES);
	restores(&none, -1, fd);
}
END_TEST

START_TEST(test_nothing_owned)
{
	auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
	struct memory_stat stat = save_ok(&none, fd);

	ck_assert_uint_eq(stat.owned_pages + stat.stored_pages + stat.zero_pages, 0);
	ck_assert_uint_eq(stat.file_bytes, MEMORY_DIFF_HEADER_BYTES);
	restores(&none, -1, fd);
}
END_TEST

/* Owned, but as it was: nothing is stored. */
START_TEST(test_nothing_differs)
{
	auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
	auto_close int image_fd = -1;
	cleanup(memory_image_done) struct memory_image image = begin_with_image(&image_fd);
	struct memory_stat stat;

	fill(100, 50, 0x22);
	stat = save_ok(&image, fd);
	ck_assert_uint_eq(stat.owned_pages, 50);
	ck_assert_uint_eq(stat.stored_pages + stat.zero_pages, 0);
	restores(&image, image_fd, fd);
}
END_TEST

START_TEST(test_zeros_over_an_image)
{
	auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
	auto_close int image_fd = -1;
	cleanup(memory_image_done) struct memory_image image = begin_with_image(&image_fd);
	struct memory_stat stat;

	fill(0, 3, 0); /* the first ones */
	fill(3, 2, 5);
	fill(5, 600, 0);       /* more than a run */
	fill(PAGES - 1, 1, 0); /* the last one */
	stat = save_ok(&image, fd);
	ck_assert_uint_eq(stat.zero_pages, 604);
	ck_assert_uint_eq(stat.stored_pages, 2);
	ck_assert_uint_lt(stat.file_bytes, MEMORY_DIFF_HEADER_BYTES + 3 * RAM_PAGE_BYTES);
	restores(&image, image_fd, fd);
}
END_TEST

/* Zeros over zeros are nothing, wherever they lie. */
START_TEST(test_zeros_over_zeros)
{
	auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
	struct memory_stat stat;

	fill(10, 5, 1);
	fill(12, 1, 0);
	stat = save_ok(&none, fd);
	ck_assert_uint_eq(stat.owned_pages, 5);
	ck_assert_uint_eq(stat.stored_pages, 4);
	ck_assert_uint_eq(stat.zero_pages, 0);
	restores(&none, -1, fd);
}
END_TEST

START_TEST(test_long_runs)
{
	auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
	struct memory_stat stat;

	for (uint32_t i = 0; i < PAGES; i++)
		fill(i, 1, 1 + (int)(i % 250));
	stat = save_ok(&none, fd);
	ck_assert_uint_eq(stat.stored_pages, PAGES);
	restores(&none, -1, fd);
}
END_TEST

/* Each second page: as many runs as there can be, more than a batch or a call holds. */
START_TEST(test_short_runs)
{
	auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
	struct memory_stat stat;

	for (uint32_t i = 1; i < PAGES; i += 2) /* the last page is a run, too */
		fill(i, 1, 1 + (int)(i % 250));
	stat = save_ok(&none, fd);
	ck_assert_uint_eq(stat.stored_pages, PAGES / 2);
	ck_assert_uint_eq(stat.file_bytes,
			  MEMORY_DIFF_HEADER_BYTES +
				  PAGES / 2 * (RAM_PAGE_BYTES + sizeof(struct memory_diff_run)));
	restores(&none, -1, fd);
}
END_TEST

static void refused(int fd, uint64_t image_id, const char *why)
{
	struct ram ram = ram_at(guest);
	struct op op = new_op();

	ck_assert_int_lt(memory_verify(fd, BYTES, image_id, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_INVALID);
	ck_assert_msg(strstr(op.err.msg, why) != NULL, "no '%s' in: %s", why, op.err.msg);
	op = new_op();
	ck_assert_int_lt(memory_restore(&ram, image_id, fd, &op), 0);
}

/* One bit anywhere that counts, and any cut. */
START_TEST(test_damage)
{
	auto_close int fd = memfd_create("diff", MFD_CLOEXEC);
	struct memory_stat stat;

	fill(1, 2, 1);
	fill(9, 1, 2);
	stat = save_ok(&none, fd);
	for (uint64_t at = 0; at < stat.file_bytes;
	     at += at == 63 ? 4096 - 63 : 1 + at / 4096 * 97) {
		unsigned char byte;
		unsigned char other;

		ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
		other = byte ^ 0x10;
		ck_assert_int_eq(pwrite(fd, &other, 1, (off_t)at), 1);
		refused(fd, 0, "memory file");
		ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
	}
	refused(fd, IMAGE_ID, "belongs to the memory image");
	ck_assert_int_eq(ftruncate(fd, (off_t)stat.file_bytes - 1), 0);
	refused(fd, 0, "cut off");
	ck_assert_int_eq(ftruncate(fd, (off_t)stat.file_bytes + 1), 0);
	refused(fd, 0, "too long");
	ck_assert_int_eq(ftruncate(fd, 63), 0);
	refused(fd, 0, "cut off");
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	refused(fd, 0, "cut off");
}
END_TEST

START_TEST(test_no_room)
{
	char where[] = "/tmp/viv-memfile-XXXXXX";
	struct ram ram = ram_at(guest);
	struct memory_stat stat;
	struct op op = new_op();
	int fd;

	ck_assert_ptr_nonnull(mkdtemp(where));
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		ck_abort_msg("needs root: a mount namespace for a small file system");
	ck_assert_int_eq(mount("viv-test", where, "tmpfs", 0, "size=1m"), 0);
	fd = openat(open(where, O_PATH | O_CLOEXEC), "memory", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(fd, 0);
	fill(0, 1000, 3);
	ck_assert_int_lt(memory_save(&ram, &none, fd, &stat, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_EXHAUSTED);
	refused(fd, 0, "memory file"); /* what is there is none */
	close(fd);
	umount2(where, MNT_DETACH);
	rmdir(where);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("memfile");
	TCase *t = tcase_create("diffs");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, test_nothing_owned);
	tcase_add_test(t, test_saving_of_what_changes);
	tcase_add_test(t, test_saving_over_an_image);
	tcase_add_test(t, test_saving_of_what_comes_to_nothing);
	tcase_add_test(t, test_saving_of_a_busy_guest);
	tcase_add_test(t, test_room_grows);
	tcase_add_test(t, test_nothing_differs);
	tcase_add_test(t, test_zeros_over_an_image);
	tcase_add_test(t, test_zeros_over_zeros);
	tcase_add_test(t, test_long_runs);
	tcase_add_test(t, test_short_runs);
	tcase_add_test(t, test_damage);
	tcase_add_test(t, test_no_room);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
