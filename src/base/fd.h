/* SPDX-License-Identifier: Apache-2.0 */
/* File descriptors: closed by attribute, moved by take_fd(). "No descriptor" is -1 or any negative.
 */
#pragma once

#include "base/macros.h"

#include <sys/types.h>

/** fd_close() - close *@fd if it is open and set it to -1; never retried; keeps errno */
void fd_close(int *fd);

/** take_fd() - move a descriptor out of a scope: returns it and sets *@fd to -1 */
static inline int take_fd(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

/** fd_write_all() - write @n bytes to a blocking descriptor. Return: 0; -errno */
must_check int fd_write_all(int fd, const void *p, size_t n);

/** fd_read_full() - read until @n bytes or end of file. Return: bytes read; -errno */
must_check ssize_t fd_read_full(int fd, void *p, size_t n);

/** fd_pread_all() - read @n bytes at an offset. Return: 0; -ENODATA the file ends before; -errno */
must_check int fd_pread_all(int fd, void *p, size_t n, uint64_t off_bytes);

/** fd_path() - the path that a descriptor was opened by, as the kernel has it now, for messages; ""
 * if it has none. Owned by the caller */
must_check char *fd_path(int fd);

/** fd_set_nonblock() - set or clear O_NONBLOCK. Return: 0; -errno */
must_check int fd_set_nonblock(int fd, bool on);

/** fd_set_cloexec() - set or clear FD_CLOEXEC. Return: 0; -errno */
must_check int fd_set_cloexec(int fd, bool on);

#define auto_close cleanup(fd_close)
