/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write disks: one suite over all drivers, in which qemu-io reads and writes a disk as a
 * guest would, through the descriptors that a VMM gets; then what is of qcow2 alone.
 */
#include "base/buf.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "disk/disk.h"
#include "os/spawn.h"
#include "patience.h"

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1024 * 1024, BASE_BYTES = 8 * MIB, DISK_BYTES = 64 * MIB, OUTPUT_MAX = 65536 };

static const char *const drivers[] = { "qcow2" };

static const struct disk_ops *ops; /* the driver under test */
static char root[] = "/tmp/viv-disk-XXXXXX";
static char base_path[sizeof(root) + 64];
static char sandbox_path[sizeof(root) + 64];
static char layer_file[sizeof(root) + 128]; /* of qcow2 */
static int sandbox_fd = -1;

static void make_dir(const char *path)
{
	ck_assert_msg(mkdir(path, 0700) == 0, "mkdir %s", path);
}

/* <root>/templates/base/root.img, filled with 0x11, and <root>/sandboxes/one. */
static void setup(void)
{
	static char chunk[MIB];
	auto_close int fd = -1;
	char path[sizeof(root) + 64];

	ck_assert_ptr_nonnull(mkdtemp(root));
	snprintf(base_path, sizeof(base_path), "%s/templates/base", root);
	ck_assert_int_eq(file_mkdirs(base_path), 0);
	snprintf(base_path, sizeof(base_path), "%s/templates/base/root.img", root);
	fd = open(base_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400);
	ck_assert_int_ge(fd, 0);
	memset(chunk, 0x11, sizeof(chunk));
	for (int i = 0; i < BASE_BYTES / MIB; i++)
		ck_assert_int_eq(fd_write_all(fd, chunk, sizeof(chunk)), 0);
	snprintf(path, sizeof(path), "%s/sandboxes", root);
	make_dir(path);
	snprintf(sandbox_path, sizeof(sandbox_path), "%s/sandboxes/one", root);
	make_dir(sandbox_path);
	snprintf(layer_file, sizeof(layer_file), "%s/layer/0.qcow2", sandbox_path);
	sandbox_fd = open(sandbox_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(sandbox_fd, 0);
	ops = disk_driver(NULL);
}

static void teardown(void)
{
	fd_close(&sandbox_fd);
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, root), 0);
}

static struct op new_op(void)
{
	struct op op;

	op_init(&op, patient_ms(60000), -1);
	return op;
}

static struct disk_spec spec_of(uint64_t size_bytes)
{
	return (struct disk_spec){
		.dirfd = sandbox_fd,
		.base_path = base_path,
		.size_bytes = size_bytes,
	};
}

static void create_ok(uint64_t size_bytes)
{
	struct disk_spec spec = spec_of(size_bytes);
	struct op op = new_op();

	ck_assert_msg(disk_create(ops, &spec, &op) == 0, "%s", op.err.msg);
}

static struct disk open_ok(uint64_t size_bytes)
{
	struct disk_spec spec = spec_of(size_bytes);
	struct op op = new_op();
	struct disk disk = { .n = 0 };

	ck_assert_msg(disk_open(ops, &spec, &disk, &op) == 0, "%s", op.err.msg);
	return disk;
}

static void open_refused(uint64_t size_bytes, const char *why)
{
	struct disk_spec spec = spec_of(size_bytes);
	struct op op = new_op();
	struct disk disk = { .n = 0 };

	ck_assert_int_lt(disk_open(ops, &spec, &disk, &op), 0);
	ck_assert_uint_eq(disk.n, 0);
	ck_assert_msg(strstr(op.err.msg, why) != NULL, "no '%s' in: %s", why, op.err.msg);
	ck_assert_msg(strstr(op.err.msg, root) != NULL, "no path in: %s", op.err.msg);
}

static int exists(void)
{
	struct op op = new_op();

	return disk_exists(ops, sandbox_fd, &op);
}

static unsigned count_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

/* Runs a tool; what it said is in @output. Return: whether it succeeded. */
static bool tool(struct buf *output, const char *const *argv)
{
	struct op op = new_op();

	buf_clear(output);
	return spawn_run(argv, NULL, output, &op) == 0;
}

/* One command of qemu-io on a disk, by the descriptors that a VMM would be given. */
static bool guest_io(const struct disk *disk, const char *command)
{
	auto_buf options = BUF_INIT(4096);
	auto_buf output = BUF_INIT(OUTPUT_MAX);
	const char *argv[] = { "qemu-io", "--image-opts", "-c", command, NULL, NULL };
	auto_buf prefix = BUF_INIT(4096);

	for (size_t i = 0; i < disk->n; i++) {
		ck_assert_int_eq(buf_printf(&options,
					    "%s%sdriver=%s,%sfile.driver=file,"
					    "%sfile.filename=/proc/%d/fd/%d",
					    i > 0 ? "," : "", buf_str(&prefix),
					    disk->chain[i].format == DISK_QCOW2 ? "qcow2" : "raw",
					    buf_str(&prefix), buf_str(&prefix), getpid(),
					    disk->chain[i].fd),
				 0);
		ck_assert_int_eq(buf_puts(&prefix, "backing."), 0);
	}
	argv[4] = buf_str(&options);
	/* qemu-io ends with 0 even when a pattern differs */
	return tool(&output, argv) && strstr(buf_str(&output), "failed") == NULL;
}

START_TEST(test_read_write)
{
	struct disk disk;

	ops = disk_driver(drivers[_i]);
	ck_assert_str_eq(disk_name(ops), drivers[_i]);
	create_ok(DISK_BYTES);
	disk = open_ok(DISK_BYTES);
	ck_assert(guest_io(&disk, "read -P 0x11 0 8M"));
	ck_assert(!guest_io(&disk, "read -P 0x22 0 8M")); /* the check can fail */
	ck_assert(guest_io(&disk, "read -P 0 8M 56M"));
	ck_assert(guest_io(&disk, "write -P 0x33 1M 192k"));
	ck_assert(guest_io(&disk, "write -P 0x44 63M 1M"));
	ck_assert(!guest_io(&disk, "write -P 0x44 64M 4k"));
	disk_done(&disk);
	disk_done(&disk);

	disk = open_ok(DISK_BYTES);
	ck_assert(guest_io(&disk, "read -P 0x33 1M 192k"));
	ck_assert(guest_io(&disk, "read -P 0x11 0 1M"));
	ck_assert(guest_io(&disk, "read -P 0x44 63M 1M"));
	disk_done(&disk);
}
END_TEST

START_TEST(test_base_is_untouched)
{
	struct stat before;
	struct stat after;
	struct disk disk;

	ops = disk_driver(drivers[_i]);
	ck_assert_int_eq(stat(base_path, &before), 0);
	create_ok(DISK_BYTES);
	disk = open_ok(DISK_BYTES);
	ck_assert(guest_io(&disk, "write -P 0x33 0 8M"));
	for (size_t i = 0; i < disk.n; i++) {
		int mode = fcntl(disk.chain[i].fd, F_GETFL) & O_ACCMODE;

		ck_assert_int_eq(mode, i == 0 ? O_RDWR : O_RDONLY);
		ck_assert_int_eq(fcntl(disk.chain[i].fd, F_GETFD), FD_CLOEXEC);
	}
	disk_done(&disk);
	ck_assert_int_eq(stat(base_path, &after), 0);
	ck_assert_int_eq(before.st_mtim.tv_sec, after.st_mtim.tv_sec);
	ck_assert_int_eq(before.st_mtim.tv_nsec, after.st_mtim.tv_nsec);
	ck_assert_int_eq(before.st_blocks, after.st_blocks);
}
END_TEST

START_TEST(test_life)
{
	struct op op = new_op();
	unsigned fds = count_fds();
	struct disk disk;
	uint64_t empty;

	ops = disk_driver(drivers[_i]);
	ck_assert_int_eq(exists(), 0);
	ck_assert_uint_eq(disk_allocated(ops, sandbox_fd), 0);
	ck_assert_int_eq(disk_release(ops, sandbox_fd, &op), 0);
	open_refused(DISK_BYTES, "No such file or directory");
	create_ok(DISK_BYTES);
	ck_assert_int_eq(exists(), 1);
	empty = disk_allocated(ops, sandbox_fd);
	ck_assert_uint_lt(empty, MIB);
	disk = open_ok(DISK_BYTES);
	ck_assert(guest_io(&disk, "write -P 0x33 0 4M"));
	disk_done(&disk);
	ck_assert_uint_ge(disk_allocated(ops, sandbox_fd), empty + 4 * MIB);
	ck_assert_int_eq(disk_release(ops, sandbox_fd, &op), 0);
	ck_assert_int_eq(exists(), 0);
	ck_assert_int_eq(disk_release(ops, sandbox_fd, &op), 0);
	ck_assert_int_eq(unlinkat(AT_FDCWD, sandbox_path, AT_REMOVEDIR), 0); /* it is empty */
	ck_assert_uint_eq(count_fds(), fds);
}
END_TEST

START_TEST(test_never_overwritten)
{
	struct disk_spec spec = spec_of(DISK_BYTES);
	struct op op = new_op();
	struct disk disk;

	ops = disk_driver(drivers[_i]);
	create_ok(DISK_BYTES);
	disk = open_ok(DISK_BYTES);
	ck_assert(guest_io(&disk, "write -P 0x33 0 1M"));
	ck_assert_int_lt(disk_create(ops, &spec, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_CONFLICT);
	ck_assert_ptr_nonnull(strstr(op.err.msg, sandbox_path));
	ck_assert(guest_io(&disk, "read -P 0x33 0 1M"));
	disk_done(&disk);
}
END_TEST

/* What a create leaves that was killed half-way is no layer, and in nobody's way. */
START_TEST(test_after_killed_create)
{
	auto_close int fd = -1;

	ops = disk_driver(drivers[_i]);
	ck_assert_int_eq(mkdirat(sandbox_fd, "layer", 0700), 0);
	fd = openat(sandbox_fd, "layer/layer.tmp", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_eq(fd_write_all(fd, "half", 4), 0);
	ck_assert_int_eq(exists(), 0);
	create_ok(DISK_BYTES);
	ck_assert_int_eq(faccessat(sandbox_fd, "layer/layer.tmp", F_OK, 0), -1);
	ck_assert_int_eq(exists(), 1);
}
END_TEST

static void create_refused(uint64_t size_bytes, enum err_kind kind, const char *why)
{
	struct disk_spec spec = spec_of(size_bytes);
	struct op op = new_op();

	ck_assert_int_lt(disk_create(ops, &spec, &op), 0);
	ck_assert_int_eq(op.err.kind, kind);
	ck_assert_msg(strstr(op.err.msg, why) != NULL, "no '%s' in: %s", why, op.err.msg);
	ck_assert_int_eq(faccessat(sandbox_fd, "layer", F_OK, 0), -1);
}

START_TEST(test_bad_specs)
{
	ops = disk_driver(drivers[_i]);
	create_refused(4 * MIB, ERR_INVALID,
		       "disk of 4194304 bytes is smaller than its base image");
	create_refused(4 * MIB, ERR_INVALID, "8388608 bytes");
	create_refused(DISK_BYTES + 1, ERR_INVALID, "multiple of 512");
	create_refused(UINT64_MAX - 511, ERR_INVALID, "bytes");
	ck_assert_int_eq(unlink(base_path), 0);
	create_refused(DISK_BYTES, ERR_SYSTEM, "No such file or directory");
	ck_assert_int_eq(mkdir(base_path, 0700), 0);
	create_refused(DISK_BYTES, ERR_SYSTEM, "no regular file");
}
END_TEST

START_TEST(test_smallest_disk)
{
	struct disk disk;

	ops = disk_driver(drivers[_i]);
	create_ok(BASE_BYTES);
	disk = open_ok(BASE_BYTES);
	ck_assert(guest_io(&disk, "write -P 0x33 7M 1M"));
	ck_assert(guest_io(&disk, "read -P 0x33 7M 1M"));
	disk_done(&disk);
}
END_TEST

START_TEST(test_open_refuses_another_size)
{
	ops = disk_driver(drivers[_i]);
	create_ok(DISK_BYTES);
	open_refused(2 * DISK_BYTES, "67108864 bytes, not of 134217728");
}
END_TEST

START_TEST(test_outlives_the_template)
{
	char base[sizeof(sandbox_path) + 16];
	struct disk disk;

	ops = disk_driver(drivers[_i]);
	create_ok(DISK_BYTES);
	ck_assert_int_eq(unlink(base_path), 0);
	disk = open_ok(DISK_BYTES);
	ck_assert(guest_io(&disk, "read -P 0x11 0 8M"));
	disk_done(&disk);
	snprintf(base, sizeof(base), "%s/layer/base", sandbox_path);
	ck_assert_int_eq(unlink(base), 0);
	open_refused(DISK_BYTES, "base image");
}
END_TEST

static void extend_ok(int dirfd)
{
	struct disk_spec spec = spec_of(DISK_BYTES);
	struct op op = new_op();

	spec.dirfd = dirfd;
	ck_assert_msg(disk_extend(ops, &spec, &op) == 0, "%s", op.err.msg);
}

static void check_io(int dirfd, const char *command)
{
	struct disk_spec spec = spec_of(DISK_BYTES);
	struct disk disk = { .n = 0 };
	struct op op = new_op();

	spec.dirfd = dirfd;
	ck_assert_msg(disk_open(ops, &spec, &disk, &op) == 0, "%s", op.err.msg);
	ck_assert_msg(guest_io(&disk, command), "%s", command);
	disk_done(&disk);
}

static int make_owner(const char *name)
{
	char path[sizeof(root) + 64];
	int fd;

	snprintf(path, sizeof(path), "%s/sandboxes/%s", root, name);
	make_dir(path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	ck_assert_int_ge(fd, 0);
	return fd;
}

START_TEST(test_layers_share_what_is_below)
{
	auto_close int child = -1;
	auto_close int grandchild = -1;
	struct op op = new_op();

	ops = disk_driver(drivers[_i]);
	create_ok(DISK_BYTES);
	check_io(sandbox_fd, "write -P 0xaa 0 1M");
	child = make_owner("child");
	ck_assert_msg(disk_link(sandbox_fd, child, &op) == 0, "%s", op.err.msg);
	extend_ok(child);
	extend_ok(sandbox_fd);
	check_io(child, "write -P 0xbb 512k 1M");
	check_io(sandbox_fd, "write -P 0xcc 3M 64k");
	check_io(sandbox_fd, "read -P 0xaa 0 1M");
	check_io(child, "read -P 0xaa 0 512k");
	check_io(child, "read -P 0x11 3M 64k");
	grandchild = make_owner("grandchild");
	ck_assert_int_eq(disk_link(child, grandchild, &op), 0);
	extend_ok(grandchild);
	ck_assert_int_eq(disk_release(ops, sandbox_fd, &op), 0);
	ck_assert_int_eq(disk_release(ops, child, &op), 0);
	check_io(grandchild, "read -P 0xbb 512k 1M");
	check_io(grandchild, "read -P 0xaa 0 512k");
	check_io(grandchild, "read -P 0x11 2M 6M");
}
END_TEST

START_TEST(test_all_but_the_top_is_shared)
{
	auto_close int child = -1;
	struct disk_spec spec = spec_of(DISK_BYTES);
	struct disk_image top = { .fd = -1 };
	struct disk disk = { .n = 0 };
	struct op op = new_op();

	ops = disk_driver(drivers[_i]);
	create_ok(DISK_BYTES);
	check_io(sandbox_fd, "write -P 0xaa 0 1M");
	child = make_owner("child");
	ck_assert_int_lt(disk_link_below(ops, sandbox_fd, child, &op), 0);
	op = new_op();
	ck_assert_int_lt(disk_retract(ops, sandbox_fd, &op), 0);
	op = new_op();
	extend_ok(sandbox_fd);
	ck_assert_int_eq(disk_open_top(ops, &spec, &top, &op), 0);
	ck_assert_int_ge(top.fd, 0);
	fd_close(&top.fd);
	check_io(sandbox_fd, "write -P 0xcc 0 64k");
	ck_assert_msg(disk_link_below(ops, sandbox_fd, child, &op) == 0, "%s", op.err.msg);
	extend_ok(child);
	check_io(child, "read -P 0xaa 0 1M");
	extend_ok(sandbox_fd);
	ck_assert_int_eq(disk_retract(ops, sandbox_fd, &op), 0);
	disk = open_ok(DISK_BYTES);
	ck_assert_uint_eq(disk.n, 3);
	disk_done(&disk);
	check_io(sandbox_fd, "read -P 0xcc 0 64k");
}
END_TEST

START_TEST(test_no_more_layers_than_fit)
{
	struct disk_spec spec = spec_of(DISK_BYTES);
	struct op op = new_op();

	ops = disk_driver(drivers[_i]);
	create_ok(DISK_BYTES);
	for (int i = 0; i < DISK_CHAIN_MAX - 2; i++)
		extend_ok(sandbox_fd);
	check_io(sandbox_fd, "read -P 0x11 0 8M");
	ck_assert_int_lt(disk_extend(ops, &spec, &op), 0);
	ck_assert_int_eq(op.err.kind, ERR_EXHAUSTED);
}
END_TEST

START_TEST(test_link_over_a_disk)
{
	auto_close int child = make_owner("child");
	struct op op = new_op();

	ops = disk_driver(drivers[_i]);
	ck_assert_int_lt(disk_link(sandbox_fd, child, &op), 0);
	op = new_op();
	create_ok(DISK_BYTES);
	ck_assert_int_eq(disk_link(sandbox_fd, child, &op), 0);
	ck_assert_int_lt(disk_link(sandbox_fd, child, &op), 0);
	check_io(child, "read -P 0x11 0 8M");
}
END_TEST

START_TEST(test_full_host_disk)
{
	char layer[sizeof(sandbox_path) + 16];
	struct disk_spec spec;
	struct op op = new_op();

	ops = disk_driver(drivers[_i]);
	snprintf(layer, sizeof(layer), "%s/layer", sandbox_path);
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		ck_abort_msg("needs root: a mount namespace for a small file system");
	ck_assert_int_eq(mkdir(layer, 0700), 0);
	ck_assert_int_eq(mount("viv-test", layer, "tmpfs", 0, "size=4k"), 0);
	fd_close(&sandbox_fd); /* it saw the old namespace's mounts */
	sandbox_fd = open(sandbox_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	spec = spec_of(DISK_BYTES);
	ck_assert_int_eq(disk_create(ops, &spec, &op), -ENOSPC);
	ck_assert_int_eq(op.err.kind, ERR_EXHAUSTED);
	ck_assert_ptr_nonnull(strstr(op.err.msg, "No space left on device"));
	ck_assert_ptr_nonnull(strstr(op.err.msg, layer));
	ck_assert_int_eq(exists(), 0);
	ck_assert_int_eq(faccessat(sandbox_fd, "layer/layer.tmp", F_OK, 0), -1);
	ck_assert_int_eq(umount(layer), 0);
}
END_TEST

START_TEST(test_sync)
{
	struct op op = new_op();

	ck_assert_int_lt(disk_sync(ops, sandbox_fd, &op), 0);
	ck_assert_msg(strstr(op.err.msg, root) != NULL, "no path in: %s", op.err.msg);
	create_ok(DISK_BYTES);
	op = new_op();
	ck_assert_msg(disk_sync(ops, sandbox_fd, &op) == 0, "%s", op.err.msg);
}
END_TEST

START_TEST(test_registry)
{
	ck_assert_str_eq(disk_name(disk_driver(NULL)), "qcow2");
	ck_assert_ptr_null(disk_driver("floppy"));
}
END_TEST

static void assert_clean(struct buf *output)
{
	const char *check[] = { "qemu-img", "check", layer_file, NULL };

	ck_assert_msg(tool(output, check), "%s", buf_str(output));
	ck_assert_ptr_nonnull(strstr(buf_str(output), "No errors were found"));
}

/* QEMU's own tools find nothing wrong, and see what we meant, for disks of all sizes. */
START_TEST(test_qcow2_by_the_book)
{
	static const uint64_t sizes[] = {
		BASE_BYTES,
		BASE_BYTES + 512,
		512 * (uint64_t)MIB,
		5 * 1024 * (uint64_t)MIB,
		4 * 1024 * 1024 * (uint64_t)MIB + 512,
		64 * 1024 * 1024 * (uint64_t)MIB,
	};
	const char *info[] = { "qemu-img", "info", "--backing-chain", layer_file, NULL };
	auto_buf output = BUF_INIT(OUTPUT_MAX);
	char virtual_size[64];
	struct disk disk;

	create_ok(sizes[_i]);
	assert_clean(&output);
	ck_assert_msg(tool(&output, info), "%s", buf_str(&output));
	snprintf(virtual_size, sizeof(virtual_size), "(%llu bytes)", (unsigned long long)sizes[_i]);
	ck_assert_ptr_nonnull(strstr(buf_str(&output), virtual_size));
	ck_assert_ptr_nonnull(strstr(buf_str(&output), "compat: 1.1"));
	ck_assert_ptr_nonnull(strstr(buf_str(&output), "cluster_size: 65536"));
	ck_assert_ptr_nonnull(strstr(buf_str(&output), "lazy refcounts: false"));
	ck_assert_ptr_nonnull(strstr(buf_str(&output), "extended l2: false"));
	ck_assert_ptr_nonnull(strstr(buf_str(&output), "corrupt: false"));
	ck_assert_ptr_nonnull(strstr(buf_str(&output), "backing file format: raw"));
	ck_assert_ptr_nonnull(
		strstr(buf_str(&output), "backing file: ../../../templates/base/root.img"));
	disk = open_ok(sizes[_i]);
	ck_assert(guest_io(&disk, "write -P 0x55 3M 2M"));
	ck_assert(guest_io(&disk, "read -P 0x55 3M 2M"));
	disk_done(&disk);
	assert_clean(&output);
}
END_TEST

/* The state directory moves, and the layer still finds its base by the stored name. */
START_TEST(test_qcow2_moves)
{
	auto_buf output = BUF_INIT(OUTPUT_MAX);
	char moved[sizeof(root) + 8];
	char file[sizeof(layer_file) + 8];
	const char *argv[] = { "qemu-io", "-f", "qcow2", "-c", "read -P 0x11 0 8M", file, NULL };
	bool ok;

	create_ok(DISK_BYTES);
	snprintf(moved, sizeof(moved), "%s-moved", root);
	snprintf(file, sizeof(file), "%s/sandboxes/one/layer/0.qcow2", moved);
	ck_assert_int_eq(rename(root, moved), 0);
	ok = tool(&output, argv);
	ck_assert_int_eq(rename(moved, root), 0);
	ck_assert_msg(ok, "%s", buf_str(&output));
	ck_assert_ptr_null(strstr(buf_str(&output), "failed"));
}
END_TEST

/* Base and layer share no folder: the stored name is absolute. */
START_TEST(test_qcow2_base_elsewhere)
{
	const char *info[] = { "qemu-img", "info", layer_file, NULL };
	char elsewhere[] = "/var/tmp/viv-disk-XXXXXX";
	auto_buf output = BUF_INIT(OUTPUT_MAX);
	char line[PATH_MAX];

	fd_close(&(int){ mkstemp(elsewhere) });
	ck_assert_int_eq(truncate(elsewhere, BASE_BYTES), 0);
	str_copy(base_path, sizeof(base_path), elsewhere);
	create_ok(DISK_BYTES);
	ck_assert_msg(tool(&output, info), "%s", buf_str(&output));
	ck_assert_int_eq(unlink(elsewhere), 0);
	snprintf(line, sizeof(line), "backing file: %s\n", elsewhere);
	ck_assert_ptr_nonnull(strstr(buf_str(&output), line));
}
END_TEST

static void patch(uint64_t off_bytes, const void *p, size_t n)
{
	auto_close int fd = open(layer_file, O_WRONLY | O_CLOEXEC);

	ck_assert_int_eq(pwrite(fd, p, n, (off_t)off_bytes), n);
}

START_TEST(test_qcow2_damage_is_named)
{
	static const struct {
		const char *why;
		unsigned off_bytes;
		unsigned char byte;
	} cases[] = {
		{ "no qcow2 image", 0, 0 },
		{ "not of qcow2 version 3", 7, 2 },
		{ "marked as corrupt", 79, 1 << 1 },
		{ "features that no layer of ours has", 79, 1 << 2 }, /* external data file */
		{ "features that no layer of ours has", 79, 1 << 4 }, /* extended L2 */
		{ "features that no layer of ours has", 72, 0x80 },
		{ "encrypted", 35, 1 },
		{ "header is damaged", 23, 12 },
		{ "header is damaged", 15, 0 },
	};
	static const unsigned char dirty = 1;

	create_ok(DISK_BYTES);
	patch(cases[_i].off_bytes, &cases[_i].byte, 1);
	open_refused(DISK_BYTES, cases[_i].why);
	open_refused(DISK_BYTES, layer_file);
	ck_assert_int_eq(unlink(layer_file), 0);
	create_ok(DISK_BYTES);
	patch(79, &dirty, 1); /* a VMM that was killed may leave this; QEMU repairs it */
	disk_done(&(struct disk[]){ open_ok(DISK_BYTES) }[0]);
}
END_TEST

START_TEST(test_qcow2_cut_off)
{
	create_ok(DISK_BYTES);
	ck_assert_int_eq(truncate(layer_file, 100), 0);
	open_refused(DISK_BYTES, "cut off");
	ck_assert_int_eq(truncate(layer_file, 0), 0);
	open_refused(DISK_BYTES, "cut off");
}
END_TEST

START_TEST(test_links_are_not_followed)
{
	char secret[sizeof(root) + 16];

	create_ok(DISK_BYTES);
	snprintf(secret, sizeof(secret), "%s/secret", root);
	ck_assert_int_eq(rename(layer_file, secret), 0);
	ck_assert_int_eq(symlink(secret, layer_file), 0);
	ck_assert_int_eq(exists(), 0);
	open_refused(DISK_BYTES, "look for layers");
}
END_TEST

int main(void)
{
	const int n = ARRAY_SIZE(drivers);
	Suite *s = suite_create("disk");
	TCase *all = tcase_create("every driver");
	TCase *qcow2 = tcase_create("qcow2");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(all, setup, teardown);
	tcase_set_timeout(all, 60);
	tcase_add_loop_test(all, test_read_write, 0, n);
	tcase_add_loop_test(all, test_base_is_untouched, 0, n);
	tcase_add_loop_test(all, test_life, 0, n);
	tcase_add_loop_test(all, test_never_overwritten, 0, n);
	tcase_add_loop_test(all, test_after_killed_create, 0, n);
	tcase_add_loop_test(all, test_bad_specs, 0, n);
	tcase_add_loop_test(all, test_smallest_disk, 0, n);
	tcase_add_loop_test(all, test_open_refuses_another_size, 0, n);
	tcase_add_loop_test(all, test_outlives_the_template, 0, n);
	tcase_add_loop_test(all, test_layers_share_what_is_below, 0, n);
	tcase_add_loop_test(all, test_all_but_the_top_is_shared, 0, n);
	tcase_add_loop_test(all, test_no_more_layers_than_fit, 0, n);
	tcase_add_loop_test(all, test_link_over_a_disk, 0, n);
	tcase_add_loop_test(all, test_full_host_disk, 0, n);
	suite_add_tcase(s, all);
	tcase_add_checked_fixture(qcow2, setup, teardown);
	tcase_set_timeout(qcow2, 60);
	tcase_add_test(qcow2, test_sync);
	tcase_add_test(qcow2, test_registry);
	tcase_add_loop_test(qcow2, test_qcow2_by_the_book, 0, 6);
	tcase_add_test(qcow2, test_qcow2_moves);
	tcase_add_test(qcow2, test_qcow2_base_elsewhere);
	tcase_add_loop_test(qcow2, test_qcow2_damage_is_named, 0, 9);
	tcase_add_test(qcow2, test_qcow2_cut_off);
	tcase_add_test(qcow2, test_links_are_not_followed);
	suite_add_tcase(s, qcow2);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
