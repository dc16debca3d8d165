/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/copy.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int disk_write_at(int fd, const void *p, size_t n, uint64_t off_bytes)
{
	const char *at = p;

	while (n > 0) {
		ssize_t put = pwrite(fd, at, n, (off_t)off_bytes);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		at += put;
		off_bytes += (uint64_t)put;
		n -= (size_t)put;
	}
	return 0;
}

static int copy_by_hand(int from, uint64_t in, int to, uint64_t out, uint64_t bytes)
{
	unsigned char chunk[4096];

	while (bytes > 0) {
		size_t n = MIN(sizeof(chunk), bytes);
		ssize_t got = pread(from, chunk, n, (off_t)in);
		int r;

		if (got < 0)
			return -errno;
		if (got == 0)
			return 0; /* zeros, as in the new file */
		r = disk_write_at(to, chunk, (size_t)got, out);
		if (r < 0)
			return r;
		in += (uint64_t)got;
		out += (uint64_t)got;
		bytes -= (uint64_t)got;
	}
	return 0;
}

int disk_copy_range(int from, uint64_t in, int to, uint64_t out, uint64_t bytes)
{
	while (bytes > 0) {
		off_t in_off = (off_t)in;
		off_t out_off = (off_t)out;
		ssize_t n = copy_file_range(from, &in_off, to, &out_off, bytes, 0);

		if (n == 0)
			return 0;
		if (n < 0 && (errno == ENOSPC || errno == EIO || errno == EDQUOT))
			return -errno;
		if (n < 0) /* a file system without it */
			return copy_by_hand(from, in, to, out, bytes);
		in += (uint64_t)n;
		out += (uint64_t)n;
		bytes -= (uint64_t)n;
	}
	return 0;
}
