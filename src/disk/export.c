/* SPDX-License-Identifier: Apache-2.0 */
/* A disk as one raw file: the base, and over it what its layers have; holes stay holes. */
#include "disk/copy.h"
#include "disk/disk-driver.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { PIECE_BYTES = 16 << 20 }; /* as much as is copied before a cancel is seen */

/* Copies what is not a hole of the base. */
static int copy_base(int base_fd, int fd, struct op *op)
{
	off_t at = 0;
	int r = 0;

	while (r == 0 && (at = lseek(base_fd, at, SEEK_DATA)) >= 0) {
		off_t end = lseek(base_fd, at, SEEK_HOLE);
		uint64_t bytes = MIN((uint64_t)(end - at), (uint64_t)PIECE_BYTES);

		if (end < 0)
			return -errno;
		r = op_check(op);
		if (r == 0)
			r = disk_copy_range(base_fd, (uint64_t)at, fd, (uint64_t)at, bytes);
		at += (off_t)bytes;
	}
	if (r < 0)
		return r;
	return errno == ENXIO ? 0 : -errno; /* there is no more */
}

static int write_all(const struct disk_ops *ops, const struct disk *disk, int fd,
		     uint64_t size_bytes, struct op *op)
{
	int fds[DISK_CHAIN_MAX];
	size_t n = disk->n - 1; /* the last is the base */
	int r = ftruncate(fd, (off_t)size_bytes) < 0 ? -errno : 0;

	for (size_t i = 0; i < n; i++)
		fds[i] = disk->chain[i].fd;
	if (r == 0)
		r = copy_base(disk->chain[n].fd, fd, op);
	if (r == 0)
		r = ops->overlay(fds, n, fd, size_bytes, op);
	/* A driver's last cluster may reach beyond the end. */
	return r == 0 && ftruncate(fd, (off_t)size_bytes) < 0 ? -errno : r;
}

int disk_export(const struct disk_ops *ops, const struct disk_spec *spec, int fd, struct op *op)
{
	cleanup(disk_done) struct disk disk = { .n = 0 };
	int r = disk_open(ops, spec, &disk, op);

	if (r < 0)
		return r;
	r = write_all(ops, &disk, fd, spec->size_bytes, op);
	return r == 0 || err_is_set(&op->err) ? r : err_errno(&op->err, -r, "write out a disk");
}
