/* SPDX-License-Identifier: Apache-2.0 */
/* Saving a VM and going on with it in another process, with the real QEMU under TCG. */
#include "vmm_guest.h"

#include "vmm/memfile.h"

#include <dirent.h>

static const char shim_path[] = VIV_TEST_SHIM;

enum { PATTERN_PAGE = 4096, PATTERN_PAGES = 64, GUEST_PAGES = 64 * 256 };

struct saved {
	int devices;
	int diff;
	int image; /* -1 = none */
	uint64_t image_id;
	struct memory_stat stat;
};

static int scratch(const char *name)
{
	int fd = openat(run_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_ge(fd, 0);
	return fd;
}

static void saved_done(struct saved *s)
{
	fd_close(&s->devices);
	fd_close(&s->diff);
	fd_close(&s->image);
}

static struct ram ram_of(struct vmm *v)
{
	struct ram ram;

	ck_assert_msg(vmm_ram(v, &ram, &op) == 0, "%s", op.err.msg);
	ck_assert_uint_eq(ram.bytes, GUEST_PAGES * (uint64_t)RAM_PAGE_BYTES);
	return ram;
}

/* Pages as a guest could have written them. */
static void write_pattern(struct vmm *v, uint32_t page, unsigned char byte)
{
	static unsigned char pages[PATTERN_PAGES * RAM_PAGE_BYTES];
	struct ram ram = ram_of(v);
	struct ram_run run = { .first = page, .n = PATTERN_PAGES };

	memset(pages, byte, sizeof(pages));
	ck_assert_msg(ram_write(&ram, &run, 1, pages, &op.err) == 0, "%s", op.err.msg);
}

/* A sum over all of the guest's memory, as it reads it. */
static uint64_t sum_memory(struct vmm *v)
{
	static unsigned char pages[RAM_RUN_PAGES_MAX * RAM_PAGE_BYTES];
	struct ram ram = ram_of(v);
	uint64_t sum = 14695981039346656037ULL;

	for (uint32_t page = 0; page < GUEST_PAGES; page += RAM_RUN_PAGES_MAX) {
		struct ram_run run = { .first = page, .n = RAM_RUN_PAGES_MAX };

		ck_assert_int_eq(ram_read(&ram, &run, 1, pages, &op.err), 0);
		for (size_t i = 0; i < sizeof(pages); i++)
			sum = (sum ^ pages[i]) * 1099511628211ULL;
	}
	return sum;
}

/* All of a cut. Return: 0; -errno. */
static int make_cut(struct vmm *v, int devices_fd, const struct vmm_image *top)
{
	int r = vmm_cut_prepare(v, &(struct vmm_cut){ devices_fd, top }, &op);

	if (r == 0)
		r = vmm_cut_begin(v, &op);
	if (r == 0)
		r = vmm_cut_finish(v, &op);
	vmm_cut_done(v, &op);
	return r;
}

static struct saved save(struct vmm *v, const struct memory_image *image)
{
	struct saved s = { .devices = -1, .diff = scratch("diff"), .image = -1 };
	struct ram ram = ram_of(v);

	fd_close(&s.devices);
	s.devices = openat(run_fd, "devices", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ck_assert_msg(make_cut(v, s.devices, NULL) == 0, "%s", op.err.msg);
	fd_close(&s.devices);
	s.devices = openat(run_fd, "devices", O_RDONLY | O_CLOEXEC);
	ck_assert_int_ge(s.devices, 0);
	ck_assert_msg(memory_save(&ram, image, s.diff, &s.stat, &op) == 0, "%s", op.err.msg);
	return s;
}

/* Ends the VM and starts another one with what was saved; it is left paused. */
static void start_again(const struct saved *s, int shim_fd)
{
	struct vmm_restore restore = {
		.devices_fd = s->devices,
		.image_fd = s->image,
		.image_id = s->image_id,
		.diff_fd = s->diff,
		.shim_fd = shim_fd,
	};
	struct vmm_spec spec = test_spec();

	spec.kernel = NULL;
	spec.restore = &restore;
	vmm_free(take_ptr(&vmm));
	fd_close(&cgroup_fd);
	ck_assert_int_eq(cgroup_remove(cgroup_root, "vm", &op), 0);
	cgroup_fd = cgroup_create(cgroup_root, "vm", &op);
	spec.cgroup_fd = cgroup_fd;
	ck_assert_int_eq(lseek(s->devices, 0, SEEK_SET), 0);
	start(&spec);
	ck_assert(!vmm_running(vmm));
}

static void say(const char *text)
{
	send_text(text);
	expect(vmm, text);
}

START_TEST(goes_on_where_it_was)
{
	struct memory_image none = MEMORY_IMAGE_INIT;
	cleanup(saved_done) struct saved s = { -1, -1, -1, 0, { 0 } };
	struct vmm_spec spec = test_spec();
	uint64_t sum;

	start(&spec);
	expect(vmm, "hello\n");
	ck_assert_int_eq(vmm_pause(vmm, &op), 0);
	write_pattern(vmm, PATTERN_PAGE, 0x5a);
	sum = sum_memory(vmm);
	s = save(vmm, &none);
	ck_assert_uint_ge(s.stat.stored_pages, PATTERN_PAGES);
	ck_assert_uint_lt(s.stat.stored_pages, GUEST_PAGES / 4);
	start_again(&s, -1);
	ck_assert_uint_eq(sum_memory(vmm), sum);
	expect_silence(50);
	ck_assert_msg(vmm_resume(vmm, &op) == 0, "%s", op.err.msg);
	say("and on");
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
}
END_TEST

/* Makes an image of what was saved over another one, and an empty diff over the new image. */
static void become_image(struct saved *s, struct memory_image *image)
{
	int fd = scratch("image");

	ck_assert_msg(
		memory_merge(image, s->diff, GUEST_PAGES * (uint64_t)RAM_PAGE_BYTES, fd, &op) == 0,
		"%s", op.err.msg);
	memory_image_done(image);
	fd_close(&fd);
	fd_close(&s->image);
	fd_close(&s->diff);
	s->image = openat(run_fd, "image", O_RDONLY | O_CLOEXEC);
	ck_assert_msg(memory_image_map(s->image, 0, image, &op.err) == 0, "%s", op.err.msg);
	image->id = memory_image_checksum(image);
	s->image_id = image->id;
}

START_TEST(from_an_image_that_it_cannot_change)
{
	cleanup(memory_image_done) struct memory_image image = MEMORY_IMAGE_INIT;
	cleanup(saved_done) struct saved s = { -1, -1, -1, 0, { 0 } };
	auto_close int shim = open(shim_path, O_RDONLY | O_CLOEXEC);
	struct vmm_spec spec = test_spec();

	ck_assert_msg(shim >= 0, "%s", shim_path);
	start(&spec);
	expect(vmm, "hello\n");
	ck_assert_int_eq(vmm_pause(vmm, &op), 0);
	write_pattern(vmm, PATTERN_PAGE, 0x11);
	s = save(vmm, &image);
	become_image(&s, &image);
	for (unsigned char generation = 1; generation <= 5; generation++) {
		uint64_t sum;

		start_again(&s, shim);
		ck_assert_int_eq(vmm_resume(vmm, &op), 0);
		say("again");
		ck_assert_int_eq(vmm_pause(vmm, &op), 0);
		write_pattern(vmm, PATTERN_PAGE, generation);
		write_pattern(vmm, PATTERN_PAGE + 2 * PATTERN_PAGES, 0);
		sum = sum_memory(vmm);
		fd_close(&s.diff);
		fd_close(&s.devices);
		{
			struct saved next = save(vmm, &image);

			s.devices = next.devices;
			s.diff = next.diff;
			s.stat = next.stat;
		}
		ck_assert_uint_lt(s.stat.file_bytes, 4 << 20);
		start_again(&s, shim);
		ck_assert_uint_eq(sum_memory(vmm), sum);
	}
	ck_assert_uint_eq(memory_image_checksum(&image), image.id);
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
}
END_TEST

START_TEST(copied_while_it_runs_on)
{
	struct memory_image none = MEMORY_IMAGE_INIT;
	cleanup(saved_done) struct saved s = { -1, -1, -1, 0, { 0 } };
	auto_close int diff = scratch("copied");
	struct memory_saving *copy = NULL;
	struct vmm_spec spec = test_spec();
	struct memory_stat stat;
	struct ram ram;
	uint64_t sum;
	int fd;

	start(&spec);
	expect(vmm, "hello\n");
	ram = ram_of(vmm);
	fd = fcntl(diff, F_DUPFD_CLOEXEC, 3);
	ck_assert_int_eq(memory_saving_new(&ram, &none, &fd, &copy, &op), 0);
	ck_assert_int_eq(memory_saving_room(copy, &op.err), 0);
	ck_assert_int_eq(vmm_pause(vmm, &op), 0);
	write_pattern(vmm, PATTERN_PAGE, 0x77);
	sum = sum_memory(vmm);
	ck_assert_int_eq(memory_saving_copy(copy, &op.err), 0);
	s = save(vmm, &none);
	write_pattern(vmm, PATTERN_PAGE, 0x78);
	ck_assert_int_eq(vmm_resume(vmm, &op), 0);
	say("still here");
	ck_assert_int_eq(memory_saving_finish(copy, &stat, &op), 0);
	memory_saving_free(copy);
	fd_close(&s.diff);
	s.diff = take_fd(&diff);
	ck_assert_uint_eq(stat.stored_pages, s.stat.stored_pages);
	start_again(&s, -1);
	ck_assert_uint_eq(sum_memory(vmm), sum);
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
}
END_TEST

static void make_raw(const char *name, int *out_fd)
{
	*out_fd = scratch(name);
	ck_assert_int_eq(ftruncate(*out_fd, 1 << 20), 0);
}

/* Each switch puts the one before below, whatever its name; and only while the VM stands still. */
START_TEST(gets_a_new_top_layer)
{
	auto_close int base = -1;
	auto_close int bad = scratch("bad");
	struct vmm_image image = { .format = VMM_IMAGE_RAW };
	struct vmm_spec spec = test_spec();

	make_raw("base", &base);
	image.fd = base;
	spec.disk = &image;
	spec.n_disk = 1;
	start(&spec);
	expect(vmm, "hello\n");
	for (int round = 0; round < 3; round++) {
		struct vmm_image top = { .format = VMM_IMAGE_QCOW2, .fd = -1 };
		auto_free char *name = str_printf("top%d", round);
		auto_free char *path = str_printf("%s/%s", dir, name);
		const char *argv[] = {
			"qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL
		};

		ck_assert_msg(spawn_run(argv, NULL, NULL, &op) == 0, "%s", op.err.msg);
		top.fd = openat(run_fd, name, O_RDWR | O_CLOEXEC);
		ck_assert_int_lt(make_cut(vmm, -1, &top), 0);
		op.err = (struct err){ 0 };
		ck_assert_int_eq(vmm_pause(vmm, &op), 0);
		ck_assert_msg(make_cut(vmm, -1, &top) == 0, "%s", op.err.msg);
		fd_close(&top.fd);
		image = (struct vmm_image){ .format = VMM_IMAGE_QCOW2, .fd = bad };
		ck_assert_int_lt(make_cut(vmm, -1, &image), 0);
		op.err = (struct err){ 0 };
		ck_assert_int_eq(vmm_resume(vmm, &op), 0);
		say("on");
	}
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
}
END_TEST

/* An empty layer. */
static struct vmm_image make_layer(const char *name)
{
	auto_free char *path = str_printf("%s/%s", dir, name);
	const char *argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", path, "1M", NULL };
	struct vmm_image layer = { .format = VMM_IMAGE_QCOW2 };

	ck_assert_msg(spawn_run(argv, NULL, NULL, &op) == 0, "%s", op.err.msg);
	layer.fd = openat(run_fd, name, O_RDWR | O_CLOEXEC);
	ck_assert_int_ge(layer.fd, 0);
	return layer;
}

static void put_on_top(const struct vmm_image *layer)
{
	ck_assert_int_eq(vmm_pause(vmm, &op), 0);
	ck_assert_msg(make_cut(vmm, -1, layer) == 0, "%s", op.err.msg);
	ck_assert_int_eq(vmm_resume(vmm, &op), 0);
}

static void expect_chain(const struct vmm_image *chain, size_t n, size_t expected)
{
	size_t top = 99;

	ck_assert_msg(vmm_set_chain(vmm, chain, n, &top, &op) == 0, "%s", op.err.msg);
	ck_assert_uint_eq(top, expected);
}

/* How many files of this directory the VMM has open. */
static unsigned open_files(void)
{
	auto_free char *path = str_printf("/proc/%d/fd", vmm_pid(vmm));
	DIR *d = opendir(path);
	const struct dirent *entry;
	unsigned n = 0;

	ck_assert_ptr_nonnull(d);
	while ((entry = readdir(d)) != NULL) {
		char target[256] = "";

		ignore_err((int)readlinkat(dirfd(d), entry->d_name, target, sizeof(target) - 1));
		n += str_starts(target, dir) && strstr(target, "layer") != NULL;
	}
	closedir(d);
	return n;
}

/* While it runs, and as often as one likes; what it needs no more it closes; and never others than
 * those over which its own top layer lies. */
START_TEST(reads_through_other_layers)
{
	auto_close int base = -1;
	struct vmm_image image = { .format = VMM_IMAGE_RAW };
	struct vmm_spec spec = test_spec();
	struct vmm_image a;
	struct vmm_image b;
	struct vmm_image c;
	struct vmm_image merged;
	size_t top;
	unsigned before;

	make_raw("base", &base);
	image.fd = openat(run_fd, "base", O_RDONLY | O_CLOEXEC);
	spec.disk = &(struct vmm_image){ .format = VMM_IMAGE_RAW, .fd = base };
	spec.n_disk = 1;
	start(&spec);
	expect(vmm, "hello\n");
	a = make_layer("layer-a");
	b = make_layer("layer-b");
	c = make_layer("layer-c");
	merged = make_layer("layer-merged");
	put_on_top(&a);
	put_on_top(&b);
	put_on_top(&c);
	before = open_files();
	fd_close(&merged.fd);
	merged.fd = openat(run_fd, "layer-merged", O_RDONLY | O_CLOEXEC);
	expect_chain((struct vmm_image[]){ c, b, a, image }, 4, 0);
	ck_assert_uint_eq(open_files(), before);
	for (int i = 0; i < 2; i++)
		expect_chain((struct vmm_image[]){ c, merged, image }, 3, 0);
	ck_assert_uint_lt(open_files(), before);
	say("on");
	ck_assert_int_lt(vmm_set_chain(vmm, (struct vmm_image[]){ merged, image }, 2, &top, &op),
			 0);
	op.err = (struct err){ 0 };
	expect_chain((struct vmm_image[]){ b, c, merged, image }, 4, 1);
	expect_chain((struct vmm_image[]){ c, image }, 2, 0);
	say("on");
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
	fd_close(&a.fd);
	fd_close(&b.fd);
	fd_close(&c.fd);
	fd_close(&merged.fd);
	fd_close(&image.fd);
}
END_TEST

/* @version: of whom it is said to be; NULL = nothing is said */
static void try_to_restore(const struct saved *s, const char *version, const char *words)
{
	struct vmm_restore restore = { .version = version,
				       .devices_fd = s->devices,
				       .image_fd = -1,
				       .diff_fd = s->diff,
				       .shim_fd = -1 };
	struct vmm_spec spec = test_spec();

	spec.kernel = NULL;
	spec.restore = &restore;
	op.err = (struct err){ 0 };
	ck_assert_int_eq(lseek(s->devices, 0, SEEK_SET), 0);
	fd_close(&cgroup_fd);
	op_init(&op, patient_ms(20000), -1);
	ck_assert_int_eq(cgroup_remove(cgroup_root, "vm", &op), 0);
	cgroup_fd = cgroup_create(cgroup_root, "vm", &op);
	spec.cgroup_fd = cgroup_fd;
	ck_assert_int_lt(vmm_start(vmm_driver(NULL), &spec, &vmm, &op), 0);
	ck_assert_msg(strstr(op.err.msg, words) != NULL, "%s", op.err.msg);
	ck_assert_int_eq(cgroup_first_pid(cgroup_root, "vm"), 0);
}

static void try_damaged(const struct saved *s, const char *words)
{
	try_to_restore(s, NULL, words);
}

START_TEST(damaged_files_start_nothing)
{
	struct memory_image none = MEMORY_IMAGE_INIT;
	cleanup(saved_done) struct saved s = { -1, -1, -1, 0, { 0 } };
	struct vmm_spec spec = test_spec();
	unsigned char byte;

	start(&spec);
	expect(vmm, "hello\n");
	ck_assert_int_eq(vmm_pause(vmm, &op), 0);
	write_pattern(vmm, PATTERN_PAGE, 0x42);
	s = save(vmm, &none);
	ck_assert_int_eq(vmm_stop(vmm, &op), 0);
	vmm_free(take_ptr(&vmm));
	ck_assert_int_eq(pread(s.diff, &byte, 1, 3 * RAM_PAGE_BYTES + 7), 1);
	byte ^= 1;
	ck_assert_int_eq(pwrite(s.diff, &byte, 1, 3 * RAM_PAGE_BYTES + 7), 1);
	try_damaged(&s, "damaged");
	try_to_restore(&s, "0.1+2", "was saved by QEMU 0.1+2, and this is ");
	byte ^= 1;
	ck_assert_int_eq(pwrite(s.diff, &byte, 1, 3 * RAM_PAGE_BYTES + 7), 1);
	ck_assert_int_eq(ftruncate(s.devices, 0), -1); /* it is open for reading only */
	{
		auto_close int cut = openat(run_fd, "devices", O_WRONLY | O_CLOEXEC);

		ck_assert_int_eq(ftruncate(cut, 1000), 0);
	}
	try_damaged(&s, "QEMU");
	ck_assert_int_eq(ftruncate(s.diff, 9000), 0);
	try_damaged(&s, "cut off");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("vmm_restore");
	TCase *t = tcase_create("vmm_restore");
	SRunner *runner;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_unchecked_fixture(t, setup_all, teardown_all);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, goes_on_where_it_was);
	tcase_add_test(t, from_an_image_that_it_cannot_change);
	tcase_add_test(t, copied_while_it_runs_on);
	tcase_add_test(t, gets_a_new_top_layer);
	tcase_add_test(t, reads_through_other_layers);
	tcase_add_test(t, damaged_files_start_nothing);
	suite_add_tcase(s, t);
	runner = srunner_create(s);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}
