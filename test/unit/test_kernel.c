/* SPDX-License-Identifier: Apache-2.0 */
#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/mapped.h"
#include "base/str.h"
#include "build/build.h"
#include "build/kernel-internal.h"
#include "template/stage.h"

#include <archive.h>
#include <archive_entry.h>
#include <check.h>
#include <dirent.h>
#include <elf.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	SETUP_BYTES = 5 * 512,
	PAYLOAD_OFF = 64,
	NOTE_OFF = 256,
	KERNEL_BYTES = 200000,
	IMAGE_MAX = 1 << 20,
	THREADS = 4,
};

static char dir[] = "/tmp/viv-test-kernel-XXXXXX";
static unsigned char image[IMAGE_MAX];
static unsigned char kernel[KERNEL_BYTES];

static void make_dir(void)
{
	str_copy(dir, sizeof(dir), "/tmp/viv-test-kernel-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void remove_dir(void)
{
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
}

/* A path below the test's directory, in new memory. */
static char *at(const char *path)
{
	return str_printf("%s/%s", dir, path);
}

static void put(const char *path, const void *p, size_t n)
{
	auto_free char *full = at(path);
	auto_free char *parent = str_dup(full);

	*strrchr(parent, '/') = '\0';
	ck_assert_int_eq(file_mkdirs(parent), 0);
	ck_assert_int_eq(file_write_atomic_at(AT_FDCWD, full, p, n, 0644), 0);
}

static void put_text(const char *path, const char *text)
{
	put(path, text, strlen(text));
}

static void put_kernel(const char *version)
{
	auto_free char *path = str_printf("kernels/%s/vmlinux", version);

	put_text(path, "ELF");
}

START_TEST(find_newest)
{
	struct kernel k;
	struct err e = { 0 };

	put_kernel("6.1.0-9-cloud-amd64");
	put_kernel("6.1.0-56-cloud-amd64");
	put_kernel("5.10.0-99-cloud-amd64");
	put_kernel(".build-9"); /* no version: a stage */
	ck_assert_int_eq(kernel_find(dir, NULL, &k, &e), 0);
	ck_assert_str_eq(k.version, "6.1.0-56-cloud-amd64");
	ck_assert(str_starts(k.vmlinux, dir) && str_ends(k.vmlinux, "56-cloud-amd64/vmlinux"));
	put_kernel("6.12.3+bpo-cloud-amd64");
	ck_assert_int_eq(kernel_find(dir, "", &k, &e), 0);
	ck_assert_str_eq(k.version, "6.12.3+bpo-cloud-amd64");
}
END_TEST

START_TEST(find_recorded)
{
	struct kernel k;
	struct err e = { 0 };

	put_kernel("6.1.0-9-cloud-amd64");
	put_kernel("6.1.0-56-cloud-amd64");
	ck_assert_int_eq(kernel_find(dir, "6.1.0-9-cloud-amd64", &k, &e), 0);
	ck_assert_str_eq(k.version, "6.1.0-9-cloud-amd64");
	ck_assert_int_eq(kernel_find(dir, "6.1.0-10-cloud-amd64", &k, &e), 1);
	ck_assert_str_eq(k.version, "6.1.0-56-cloud-amd64");
	ck_assert_int_eq(kernel_find(dir, "../kernels/6.1.0-9-cloud-amd64", &k, &e), 1);
	ck_assert(!err_is_set(&e));
}
END_TEST

START_TEST(find_none)
{
	auto_free char *kernels = at("kernels");
	struct kernel k;
	struct err e = { 0 };

	ck_assert_int_eq(kernel_find(dir, NULL, &k, &e), -ENOENT);
	ck_assert_int_eq(e.kind, ERR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(e.msg, kernels));
	ck_assert_ptr_nonnull(strstr(e.msg, "vivd prepare"));
	ck_assert_int_eq(file_mkdirs(kernels), 0);
	ck_assert_int_eq(kernel_find(dir, "6.1.0-9-cloud-amd64", &k, &e), -ENOENT);
}
END_TEST

enum compression { GZIP, XZ, ZSTD, LZ4, COMPRESSION_N };

/* Compresses into @out; returns how many bytes. */
static size_t compress(enum compression how, const void *p, size_t n, void *out, size_t size)
{
	struct archive *a = archive_write_new();
	struct archive_entry *entry = archive_entry_new();
	size_t used = 0;

	if (how == GZIP)
		archive_write_add_filter_gzip(a);
	else if (how == XZ)
		archive_write_add_filter_xz(a);
	else if (how == ZSTD)
		archive_write_add_filter_zstd(a);
	else
		archive_write_add_filter_lz4(a);
	archive_write_set_format_raw(a);
	archive_write_set_bytes_per_block(a, 0);
	ck_assert_int_eq(archive_write_open_memory(a, out, size, &used), ARCHIVE_OK);
	archive_entry_set_filetype(entry, AE_IFREG);
	ck_assert_int_eq(archive_write_header(a, entry), ARCHIVE_OK);
	ck_assert_int_eq(archive_write_data(a, p, n), (la_ssize_t)n);
	ck_assert_int_eq(archive_write_close(a), ARCHIVE_OK);
	archive_entry_free(entry);
	archive_write_free(a);
	return used;
}

/* A kernel that is all header and noise, with a PVH note. */
static void make_kernel(uint32_t note_type)
{
	Elf64_Ehdr head = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB },
			    .e_machine = EM_X86_64,
			    .e_phoff = sizeof(head),
			    .e_phentsize = sizeof(Elf64_Phdr),
			    .e_phnum = 2 };
	Elf64_Phdr ph[2] = { { .p_type = PT_LOAD },
			     { .p_type = PT_NOTE, .p_offset = NOTE_OFF, .p_filesz = 20 + 24 } };
	Elf64_Nhdr other = { .n_namesz = 4, .n_descsz = 2, .n_type = 1 };
	Elf64_Nhdr note = { .n_namesz = 4, .n_descsz = 8, .n_type = note_type };

	for (size_t i = 0; i < sizeof(kernel); i++)
		kernel[i] = (unsigned char)(i * 2654435761u >> 13);
	memcpy(kernel, &head, sizeof(head));
	memcpy(kernel + head.e_phoff, ph, sizeof(ph));
	memcpy(kernel + NOTE_OFF, &other, sizeof(other));
	memcpy(kernel + NOTE_OFF + 12, "GNU", 4);
	memcpy(kernel + NOTE_OFF + 20, &note, sizeof(note));
	memcpy(kernel + NOTE_OFF + 32, "Xen", 4);
}

/* Wraps the kernel as a bzImage; returns its size. */
static size_t make_image(enum compression how, size_t kernel_bytes)
{
	unsigned char *payload = image + SETUP_BYTES + PAYLOAD_OFF;
	uint32_t n = (uint32_t)compress(how, kernel, kernel_bytes, payload, IMAGE_MAX / 2);
	uint32_t off = htole32(PAYLOAD_OFF);
	uint32_t after = htole32((uint32_t)kernel_bytes);
	uint32_t length;

	if (how != GZIP) {
		memcpy(payload + n, &after, sizeof(after));
		n += sizeof(after);
	}
	memset(image, 0, SETUP_BYTES);
	image[0x1f1] = SETUP_BYTES / 512 - 1;
	memcpy(image + 0x202, "HdrS\x0f\x02", 6);
	memcpy(image + 0x248, &off, sizeof(off));
	length = htole32(n);
	memcpy(image + 0x24c, &length, sizeof(length));
	return SETUP_BYTES + PAYLOAD_OFF + n + 100; /* what follows the payload does not matter */
}

static int extract(size_t n, struct err *e)
{
	auto_free char *in = at("bzImage");
	auto_free char *out = at("vmlinux");

	put("bzImage", image, n);
	return vmlinux_extract(in, out, e);
}

START_TEST(extract_all)
{
	auto_free char *out = at("vmlinux");
	auto_mapped m = { 0 };
	struct err e = { 0 };
	struct stat st;

	make_kernel(18);
	ck_assert_int_eq(extract(make_image((enum compression)_i, sizeof(kernel)), &e), 0);
	ck_assert_int_eq(mapped_open(AT_FDCWD, out, &m), 0);
	ck_assert_uint_eq(m.n, sizeof(kernel));
	ck_assert_int_eq(memcmp(m.p, kernel, sizeof(kernel)), 0);
	ck_assert_int_eq(stat(out, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0644);
}
END_TEST

static void assert_refused(size_t n, const char *why)
{
	auto_free char *out = at("vmlinux");
	struct err e = { 0 };

	ck_assert_int_lt(extract(n, &e), 0);
	ck_assert_msg(strstr(e.msg, why) != NULL, "\"%s\" has no \"%s\"", e.msg, why);
	ck_assert_ptr_nonnull(strstr(e.msg, "bzImage"));
	ck_assert_int_ne(access(out, F_OK), 0);
}

START_TEST(extract_corrupt)
{
	uint32_t huge = 0xfffffff0;
	size_t n;

	make_kernel(18);
	n = make_image(GZIP, sizeof(kernel));
	image[0x202] = 'X';
	assert_refused(n, "no bzImage");
	n = make_image(GZIP, sizeof(kernel));
	assert_refused(0x24f, "cut short");
	assert_refused(n / 2, "cut short");
	memcpy(image + 0x248, &huge, sizeof(huge));
	assert_refused(n, "cut short");
	n = make_image(GZIP, sizeof(kernel));
	memset(image + n / 2, 0xa5, 2000);
	assert_refused(n, "corrupt");
	n = make_image(LZ4, sizeof(kernel));
	image[n - 101] ^= 1; /* the size behind the stream */
	assert_refused(n, "corrupt");
	n = make_image(GZIP, sizeof(kernel));
	memset(image + SETUP_BYTES + PAYLOAD_OFF, 'x', 16); /* no compression that is known */
	assert_refused(n, "corrupt");
}
END_TEST

START_TEST(extract_not_bootable)
{
	make_kernel(17);
	assert_refused(make_image(GZIP, sizeof(kernel)), "no PVH entry");
	make_kernel(18);
	kernel[NOTE_OFF + 20] = 0xff; /* the name of the note ends beyond the segment */
	assert_refused(make_image(GZIP, sizeof(kernel)), "no PVH entry");
	make_kernel(18);
	kernel[18] = EM_AARCH64;
	assert_refused(make_image(GZIP, sizeof(kernel)), "x86-64");
	make_kernel(18);
	memset(kernel + 32, 0xff, 8); /* e_phoff */
	assert_refused(make_image(GZIP, sizeof(kernel)), "program headers");
	make_kernel(18);
	assert_refused(make_image(GZIP, 40), "no kernel");
}
END_TEST

/* An ELF file with nothing but a .modinfo section. Returns its size. */
static size_t make_module(unsigned char *out, const char *depends)
{
	static const char names[] = "\0.modinfo\0.shstrtab";
	Elf64_Ehdr head = { .e_ident = { 0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB },
			    .e_shoff = sizeof(head),
			    .e_shentsize = sizeof(Elf64_Shdr),
			    .e_shnum = 3,
			    .e_shstrndx = 2 };
	size_t data = sizeof(head) + 3 * sizeof(Elf64_Shdr);
	int n = snprintf((char *)out + data, 256, "license=GPL%cdepends=%s", 0, depends);
	Elf64_Shdr sections[3] = {
		{ 0 },
		{ .sh_name = 1,
		  .sh_type = SHT_PROGBITS,
		  .sh_offset = data,
		  .sh_size = (size_t)n + 1 },
		{ .sh_name = 10,
		  .sh_type = SHT_STRTAB,
		  .sh_offset = data + 512,
		  .sh_size = sizeof(names) },
	};

	memcpy(out, &head, sizeof(head));
	memcpy(out + sizeof(head), sections, sizeof(sections));
	memcpy(out + data + 512, names, sizeof(names));
	return data + 512 + sizeof(names);
}

static void put_module(const char *path, const char *depends, enum compression how)
{
	static unsigned char plain[4096];
	static unsigned char packed[8192];
	auto_free char *full = str_printf("tree/%s", path);
	size_t n = make_module(plain, depends);

	if (how == COMPRESSION_N)
		put(full, plain, n);
	else
		put(full, packed, compress(how, plain, n, packed, sizeof(packed)));
}

static void put_modules(void)
{
	put_text("tree/modules.builtin", "kernel/net/packet/af_packet.ko\nkernel/lib/core-x.ko\n");
	put_text("tree/modules.order", "kernel/v/virtio.ko\nkernel/v/virtio_mmio.ko\n"
				       "kernel/v/virtio_ring.ko\nkernel/b/virtio_blk.ko\n"
				       "kernel/n/virtio_net.ko\nkernel/n/net_failover.ko\n"
				       "kernel/n/failover.ko\nkernel/c/virtio_console.ko\n"
				       "kernel/v/virtio_balloon.ko\nkernel/h/virtio-rng.ko\n"
				       "kernel/t/tcp_diag.ko\nkernel/x/unused.ko\n");
	put_module("kernel/v/virtio.ko", "virtio-ring", COMPRESSION_N);
	put_module("kernel/v/virtio_mmio.ko", "virtio,virtio_ring,core_x", COMPRESSION_N);
	put_module("kernel/v/virtio_ring.ko.xz", "", XZ);
	put_module("kernel/b/virtio_blk.ko.zst", "virtio_ring,virtio", ZSTD);
	put_module("kernel/n/virtio_net.ko", "net_failover,virtio", COMPRESSION_N);
	put_module("kernel/n/net_failover.ko", "failover", COMPRESSION_N);
	put_module("kernel/n/failover.ko", "", COMPRESSION_N);
	put_module("kernel/c/virtio_console.ko", "virtio", COMPRESSION_N);
	put_module("kernel/v/virtio_balloon.ko", "virtio", COMPRESSION_N);
	put_module("kernel/h/virtio-rng.ko", "virtio", COMPRESSION_N);
	put_module("kernel/t/tcp_diag.ko", "", COMPRESSION_N);
	put_module("kernel/x/unused.ko", "", COMPRESSION_N);
}

static int collect(struct err *e)
{
	auto_free char *tree = at("tree");
	auto_free char *out = at("modules");

	return modules_collect(tree, out, e);
}

START_TEST(modules_order)
{
	auto_buf order = BUF_INIT(4096);
	auto_free char *path = at("modules/order");
	auto_free char *packed = at("modules/virtio_blk.ko");
	auto_free char *unused = at("modules/unused.ko");
	auto_mapped m = { 0 };
	struct err e = { 0 };

	put_modules();
	ck_assert_msg(collect(&e) == 0, "%s", e.msg);
	ck_assert_int_eq(file_read_at(AT_FDCWD, path, &order), 0);
	ck_assert_str_eq(buf_str(&order),
			 "virtio_ring.ko\nvirtio.ko\nvirtio_mmio.ko\nvirtio_blk.ko\nfailover.ko\n"
			 "net_failover.ko\nvirtio_net.ko\nvirtio_console.ko\nvirtio_balloon.ko\n"
			 "virtio_rng.ko\ntcp_diag.ko\n");
	ck_assert_int_eq(mapped_open(AT_FDCWD, packed, &m), 0);
	ck_assert_int_eq(memcmp(m.p, ELFMAG, SELFMAG), 0);
	ck_assert_int_ne(access(unused, F_OK), 0);
}
END_TEST

static void assert_collect_fails(const char *module)
{
	auto_free char *out = at("modules");
	struct err e = { 0 };

	ck_assert_int_lt(collect(&e), 0);
	ck_assert_ptr_nonnull(strstr(e.msg, module));
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, out), 0);
}

START_TEST(modules_refused)
{
	auto_free char *blk = at("tree/kernel/b/virtio_blk.ko.zst");

	put_modules();
	ck_assert_int_eq(unlink(blk), 0);
	assert_collect_fails("virtio_blk"); /* listed, not there */
	put_text("tree/kernel/v/virtio_mmio.ko", "this is no module");
	assert_collect_fails("virtio_mmio");
	put_text("tree/modules.order", "kernel/v/virtio.ko\n");
	assert_collect_fails("no driver virtio_mmio");
}
END_TEST

static const char version[] = "6.1.0-9-cloud-amd64";

static void put_whole_kernel(struct kernel *k)
{
	struct err e = { 0 };

	put_kernel(version);
	put_text("kernels/6.1.0-9-cloud-amd64/modules/order", "a.ko\nb.ko\n");
	put_text("kernels/6.1.0-9-cloud-amd64/modules/a.ko", "module a");
	put_text("kernels/6.1.0-9-cloud-amd64/modules/b.ko", "module b");
	put_text("agent", "the agent");
	ck_assert_int_eq(kernel_find(dir, NULL, k, &e), 0);
}

/* "path mode size[:contents]" for each entry. */
static void list_image(const char *path, struct buf *out)
{
	struct archive *a = archive_read_new();
	struct archive_entry *entry;
	int r;

	archive_read_support_format_cpio(a);
	ck_assert_int_eq(archive_read_open_filename(a, path, 65536), ARCHIVE_OK);
	ck_assert_str_eq(archive_filter_name(a, 0), "none");
	while ((r = archive_read_next_header(a, &entry)) == ARCHIVE_OK) {
		char text[64] = "";

		ck_assert_int_ge(archive_read_data(a, text, sizeof(text) - 1), 0);
		ck_assert_int_eq(buf_printf(out, "%s %o %s\n", archive_entry_pathname(entry),
					    archive_entry_mode(entry), text),
				 0);
		if (S_ISCHR(archive_entry_mode(entry)))
			ck_assert(archive_entry_rdevmajor(entry) == 5 &&
				  archive_entry_rdevminor(entry) == 1);
	}
	ck_assert_int_eq(r, ARCHIVE_EOF);
	ck_assert_int_eq(archive_format(a), ARCHIVE_FORMAT_CPIO_SVR4_NOCRC);
	archive_read_free(a);
}

START_TEST(initramfs_contents)
{
	auto_free char *agent = at("agent");
	auto_buf list = BUF_INIT(4096);
	char path[512];
	char again[512];
	struct kernel k;
	struct op op;
	struct stat st;

	op_init(&op, 0, -1);
	put_whole_kernel(&k);
	ck_assert_int_eq(kernel_initramfs(dir, &k, agent, path, sizeof(path), &op), 0);
	list_image(path, &list);
	ck_assert_str_eq(buf_str(&list), "dev 40755 \nmodules 40755 \nnewroot 40755 \nproc 40755 \n"
					 "sys 40755 \ndev/console 20600 \ninit 100755 the agent\n"
					 "modules/order 100644 a.ko\nb.ko\n\n"
					 "modules/a.ko 100644 module a\n"
					 "modules/b.ko 100644 module b\n");
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0644);
	ck_assert_uint_eq(strlen(strrchr(path, '/')), strlen("/initramfs-0123456789abcdef"));
	ck_assert_int_eq(kernel_initramfs(dir, &k, agent, again, sizeof(again), &op), 0);
	ck_assert_str_eq(path, again);
	put_text("agent", "another agent");
	ck_assert_int_eq(kernel_initramfs(dir, &k, agent, again, sizeof(again), &op), 0);
	ck_assert_str_ne(path, again);
}
END_TEST

START_TEST(initramfs_errors)
{
	auto_free char *agent = at("no-agent");
	char path[512];
	struct kernel k;
	struct op op;

	op_init(&op, 0, -1);
	put_whole_kernel(&k);
	ck_assert_int_lt(kernel_initramfs(dir, &k, agent, path, sizeof(path), &op), 0);
	ck_assert_ptr_nonnull(strstr(op.err.msg, agent));
}
END_TEST

struct maker {
	struct kernel k;
	char agent[256];
	char path[512];
	int result;
};

static void *make_in_thread(void *arg)
{
	struct maker *m = arg;
	struct op op;

	op_init(&op, 0, -1);
	m->result = kernel_initramfs(dir, &m->k, m->agent, m->path, sizeof(m->path), &op);
	return NULL;
}

static int count_entries(const char *prefix)
{
	auto_free char *path = str_printf("%s/kernels/%s", dir, version);
	DIR *d = opendir(path);
	struct dirent *entry;
	int n = 0;

	ck_assert_ptr_nonnull(d);
	while ((entry = readdir(d)) != NULL)
		n += str_starts(entry->d_name, prefix) ? 1 : 0;
	closedir(d);
	return n;
}

START_TEST(initramfs_concurrent)
{
	static struct maker makers[THREADS];
	pthread_t threads[THREADS];

	for (size_t i = 0; i < THREADS; i++) {
		put_whole_kernel(&makers[i].k);
		snprintf(makers[i].agent, sizeof(makers[i].agent), "%s/agent", dir);
	}
	for (size_t i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, make_in_thread, &makers[i]), 0);
	for (size_t i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	for (size_t i = 0; i < THREADS; i++) {
		ck_assert_int_eq(makers[i].result, 0);
		ck_assert_str_eq(makers[i].path, makers[0].path);
	}
	ck_assert_int_eq(count_entries("initramfs-"), 1);
	ck_assert_int_eq(count_entries(".initramfs-"), 0);
}
END_TEST

START_TEST(stage_sweeps_the_dead_only)
{
	auto_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	auto_free char *alive = at(".build-alive");
	auto_free char *dead = at(".build-dead");
	auto_close int lock = -1;
	struct stage s = { .fd = -1 };

	put_text(".build-dead/file", "left over");
	put_text(".build-alive/file", "in use");
	lock = open(alive, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_eq(flock(lock, LOCK_EX), 0);
	ck_assert_int_eq(stage_begin(fd, ".build-", true, &s), 0);
	ck_assert_int_ne(access(dead, F_OK), 0);
	ck_assert_int_eq(access(alive, F_OK), 0);
	ck_assert_int_eq(faccessat(fd, s.name, F_OK, 0), 0);
	ck_assert_int_eq(stage_commit(&s, "done"), 0);
	stage_done(&s);
	ck_assert_int_eq(faccessat(fd, "done", F_OK, 0), 0);
}
END_TEST

START_TEST(stage_undone)
{
	auto_close int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stage s = { .fd = -1 };
	char name[sizeof(s.name)];

	ck_assert_int_eq(stage_begin(fd, ".build-", false, &s), 0);
	str_copy(name, sizeof(name), s.name);
	stage_done(&s);
	stage_done(&s);
	ck_assert_int_ne(faccessat(fd, name, F_OK, 0), 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("kernel");
	TCase *tc = tcase_create("kernel");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, make_dir, remove_dir);
	tcase_add_test(tc, find_newest);
	tcase_add_test(tc, find_recorded);
	tcase_add_test(tc, find_none);
	tcase_add_loop_test(tc, extract_all, 0, COMPRESSION_N);
	tcase_add_test(tc, extract_corrupt);
	tcase_add_test(tc, extract_not_bootable);
	tcase_add_test(tc, modules_order);
	tcase_add_test(tc, modules_refused);
	tcase_add_test(tc, initramfs_contents);
	tcase_add_test(tc, initramfs_errors);
	tcase_add_test(tc, initramfs_concurrent);
	tcase_add_test(tc, stage_sweeps_the_dead_only);
	tcase_add_test(tc, stage_undone);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
