/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root disk. The template's file system is as small as its contents; a sandbox's disk is as
 * large as its owner asked for. So the file system is grown at each boot that finds it smaller than
 * its device, online, by the kernel: resize2fs is not part of every image. So is that of a guest
 * that was restored with a larger disk than it was saved with.
 */
#include "agent/boot-internal.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <linux/netlink.h>
#include <poll.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* fs/ext4/ext4.h; not in the headers for programs. The argument is a number of file system blocks.
 */
#define EXT4_IOC_RESIZE_FS _IOW('f', 16, __u64)

enum {
	DEVICE_WAIT_MS = 10000,
	SUPER_OFF = 1024,
	SUPER_BYTES = 1024,
	SUPER_BLOCKS_LO = 0x4,
	SUPER_LOG_BLOCK = 0x18,
	SUPER_MAGIC = 0x38,
	SUPER_INCOMPAT = 0x60,
	SUPER_BLOCKS_HI = 0x150,
	EXT4_MAGIC = 0xef53,
	INCOMPAT_64BIT = 0x80,
	LOG_BLOCK_MAX = 6, /* 64 KiB */
};

struct geometry {
	uint64_t fs_blocks;
	uint64_t device_blocks; /* in blocks of the file system */
};

static const char mount_point[] = "/newroot";

static uint32_t le32_at(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

/* devtmpfs makes the node when the driver has the device: the watch is set before looking. */
static int wait_for_node(const char *path)
{
	uint64_t deadline_ns = clock_now_ns() + (uint64_t)DEVICE_WAIT_MS * NS_PER_MS;
	auto_close int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	if (watch < 0 || inotify_add_watch(watch, "/dev", IN_CREATE) < 0)
		return -errno;
	while (access(path, F_OK) < 0) {
		struct pollfd p = { .fd = watch, .events = POLLIN };
		uint64_t now_ns = clock_now_ns();
		char events[1024];

		if (now_ns >= deadline_ns)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)((deadline_ns - now_ns) / NS_PER_MS) + 1) < 0 &&
		    errno != EINTR)
			return -errno;
		/* That something was made is all that counts; it is looked for by its name. */
		ignore_err((int)read(watch, events, sizeof(events)));
	}
	return 0;
}

static int read_geometry(const char *device, struct geometry *out)
{
	auto_close int fd = open(device, O_RDONLY | O_CLOEXEC);
	unsigned char super[SUPER_BYTES] = { 0 };
	uint64_t device_bytes;
	unsigned log_block;
	ssize_t n;

	if (fd < 0 || ioctl(fd, BLKGETSIZE64, &device_bytes) < 0)
		return -errno;
	n = pread(fd, super, sizeof(super), SUPER_OFF);
	if (n < 0)
		return -errno;
	log_block = le32_at(super + SUPER_LOG_BLOCK);
	if (n != sizeof(super) || (le32_at(super + SUPER_MAGIC) & 0xffff) != EXT4_MAGIC ||
	    log_block > LOG_BLOCK_MAX)
		return -EINVAL;
	out->fs_blocks = le32_at(super + SUPER_BLOCKS_LO);
	if ((le32_at(super + SUPER_INCOMPAT) & INCOMPAT_64BIT) != 0)
		out->fs_blocks |= (uint64_t)le32_at(super + SUPER_BLOCKS_HI) << 32;
	out->device_blocks = device_bytes >> (10 + log_block);
	return 0;
}

static int grow(const char *mounted, uint64_t blocks)
{
	auto_close int fd = open(mounted, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	__u64 arg = blocks;

	if (fd < 0)
		return -errno;
	return ioctl(fd, EXT4_IOC_RESIZE_FS, &arg) < 0 ? -errno : 0;
}

int boot_disk(const char *device, struct err *e)
{
	struct geometry g = { 0 };
	int r = wait_for_node(device);

	if (r < 0)
		return err_errno(e, -r, "wait for the root disk %s", device);
	r = read_geometry(device, &g);
	if (r == -EINVAL)
		return err_set(e, ERR_INVALID, "the root disk %s has no ext4 file system", device);
	if (r < 0)
		return err_errno(e, -r, "read the root disk %s", device);
	/* noinit_itable: no background writing of tables that fill the sandbox's layer for nothing.
	 */
	if (mount(device, mount_point, "ext4", MS_NOATIME, "noinit_itable") < 0)
		return err_errno(e, errno, "mount the root disk %s", device);
	if (g.fs_blocks >= g.device_blocks)
		return 0;
	r = grow(mount_point, g.device_blocks);
	return r < 0 ? err_errno(e, -r, "grow the root file system to its disk") : 0;
}

/* The node of the device that is mounted as the root. */
static int root_device(char out[PATH_MAX])
{
	auto_free char *link = NULL;
	char target[PATH_MAX];
	struct stat st;
	ssize_t n;

	if (stat("/", &st) < 0)
		return -errno;
	link = str_printf("/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
	n = readlink(link, target, sizeof(target) - 1);
	if (n < 0)
		return -errno;
	target[n] = '\0';
	return str_fit(out, PATH_MAX, "/dev/%s", strrchr(target, '/') + 1);
}

/* The kernel announces that a device became larger; who asks before hears of it. */
static int wait_for_size(const char *device, uint64_t bytes)
{
	const struct sockaddr_nl kernel = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	uint64_t deadline_ns = clock_now_ns() + (uint64_t)DEVICE_WAIT_MS * NS_PER_MS;
	auto_close int events = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
				       NETLINK_KOBJECT_UEVENT);
	auto_close int fd = open(device, O_RDONLY | O_CLOEXEC);

	if (events < 0 || fd < 0 ||
	    bind(events, (const struct sockaddr *)&kernel, sizeof(kernel)) < 0)
		return -errno;
	for (;;) {
		struct pollfd p = { .fd = events, .events = POLLIN };
		uint64_t now_ns = clock_now_ns();
		uint64_t has_bytes = 0;
		char event[2048];

		if (ioctl(fd, BLKGETSIZE64, &has_bytes) < 0)
			return -errno;
		if (has_bytes >= bytes)
			return 0;
		if (now_ns >= deadline_ns)
			return -ETIMEDOUT;
		if (poll(&p, 1, (int)((deadline_ns - now_ns) / NS_PER_MS) + 1) < 0 &&
		    errno != EINTR)
			return -errno;
		ignore_err((int)recv(events, event, sizeof(event), 0)); /* the size counts */
	}
}

int boot_disk_grow(uint64_t bytes)
{
	char device[PATH_MAX];
	struct geometry g = { 0 };
	int r = root_device(device);

	if (r == 0)
		r = wait_for_size(device, bytes);
	if (r == 0)
		r = read_geometry(device, &g);
	if (r < 0 || g.fs_blocks >= g.device_blocks)
		return r;
	return grow("/", g.device_blocks);
}

static int carry_over(const char *from, const char *to)
{
	/* An image need not have the directory. */
	if (mkdir(to, 0755) < 0 && errno != EEXIST)
		return -errno;
	return mount(from, to, NULL, MS_MOVE, NULL) < 0 ? -errno : 0;
}

/* The running agent's pages stay until it ends; those of the modules are free at once. */
static int remove_initramfs(void)
{
	int r = file_remove_tree_at(AT_FDCWD, "/modules");

	return r < 0 ? r : file_remove_tree_at(AT_FDCWD, "/init");
}

int boot_switch_root(struct err *e)
{
	static const struct {
		const char *from;
		const char *to;
	} moves[] = {
		{ "/dev", "/newroot/dev" },
		{ "/proc", "/newroot/proc" },
		{ "/sys", "/newroot/sys" },
	};
	int r = remove_initramfs();

	if (r < 0)
		return err_errno(e, -r, "remove the initramfs' files");
	for (size_t i = 0; i < ARRAY_SIZE(moves); i++) {
		r = carry_over(moves[i].from, moves[i].to);
		if (r < 0)
			return err_errno(e, -r, "move %s to %s", moves[i].from, moves[i].to);
	}
	if (chdir(mount_point) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 || chroot(".") < 0 ||
	    chdir("/") < 0)
		return err_errno(e, errno, "move into the root disk");
	return 0;
}
