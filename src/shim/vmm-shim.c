/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loaded into VMMs that map a memory image: QEMU opens the file behind a memory backend for reading
 * and writing, also when it only maps it privately. No VMM may be able to write an image that
 * others share, so it is given a descriptor for reading only, and this makes QEMU content with it:
 * opening /proc/self/fd/N of such a descriptor for writing gives a duplicate, which can read. A
 * private mapping of that is as writable as any; a hole cannot be punched through it.
 *
 * It also makes what tells which pages of a guest are written to while the guest is copied
 * (vmm/ram.c): a userfaultfd, which only the process itself can make for its memory. What it needs
 * of the kernel it may not have; then there is none.
 */
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum {
	TRACKING_FD = 9,            /* RAM_UFFD of vmm/ram.h */
	FEATURE_WP_ASYNC = 1 << 15, /* of Linux 6.7; not in Debian 12's headers */
};

static const char own_fds[] = "/proc/self/fd/";

/* The number of a descriptor of ours that only reads, if that is what a path names; else -1. */
static int readonly_fd(const char *path)
{
	const char *digit = path + strlen(own_fds);
	int flags;
	int fd = 0;

	if (strncmp(path, own_fds, strlen(own_fds)) != 0 || *digit == '\0')
		return -1;
	for (; *digit != '\0' && fd < 1024; digit++) {
		if (*digit < '0' || *digit > '9')
			return -1;
		fd = fd * 10 + (*digit - '0');
	}
	flags = fcntl(fd, F_GETFL);
	return flags >= 0 && (flags & O_ACCMODE) == O_RDONLY ? fd : -1;
}

static int open_path(const char *path, int flags, mode_t mode)
{
	int fd = (flags & O_ACCMODE) == O_RDWR ? readonly_fd(path) : -1;

	if (fd >= 0)
		return fcntl(fd, F_DUPFD_CLOEXEC, 3);
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

EXPORT int open64(const char *path, int flags, ...)
{
	mode_t mode = 0;

	if ((flags & (O_CREAT | O_TMPFILE)) != 0) {
		va_list ap;

		va_start(ap, flags);
		mode = va_arg(ap, mode_t);
		va_end(ap);
	}
	return open_path(path, flags, mode);
}

/* What a fortified program calls when it gives no mode; glibc may have declared it, or not. */
EXPORT int open64_2(const char *path, int flags) __asm__("__open64_2");

EXPORT int open64_2(const char *path, int flags)
{
	return open_path(path, flags, 0);
}

__attribute__((constructor)) static void make_tracking(void)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | FEATURE_WP_ASYNC,
	};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);

	if (fd < 0)
		return;
	if (ioctl(fd, UFFDIO_API, &api) == 0 && dup3(fd, TRACKING_FD, O_CLOEXEC) < 0)
		return; /* it has that number already */
	close(fd);
}
