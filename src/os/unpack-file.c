/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/str.h"
#include "os/unpack-internal.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HOLE_BYTES = 4096 };

static bool is_zero(const char *p, size_t n)
{
	return n > 0 && p[0] == '\0' && memcmp(p, p + 1, n - 1) == 0;
}

static int write_at(int fd, const char *p, size_t n, uint64_t at)
{
	while (n > 0) {
		ssize_t w = pwrite(fd, p, n, (off_t)at);

		if (w < 0 && errno == EINTR)
			continue;
		if (w < 0)
			return -errno;
		p += w;
		n -= (size_t)w;
		at += (uint64_t)w;
	}
	return 0;
}

/* Up to the end of a block of the file: a hole is a whole one, as far as this piece goes. */
static size_t block_rest(uint64_t at, size_t n)
{
	return MIN(n, (size_t)(HOLE_BYTES - at % HOLE_BYTES));
}

int unpack_file_write(struct unpack_file *f, const char *p, size_t n)
{
	while (n > 0) {
		size_t len = block_rest(f->at_bytes, n);
		bool hole = is_zero(p, len);
		int r;

		while (len < n && is_zero(p + len, block_rest(f->at_bytes + len, n - len)) == hole)
			len += block_rest(f->at_bytes + len, n - len);
		r = hole ? 0 : write_at(f->fd, p, len, f->at_bytes);
		if (r < 0)
			return r;
		f->at_bytes += len;
		p += len;
		n -= len;
	}
	return 0;
}

void unpack_times(const struct tar_entry *entry, struct timespec out[2])
{
	out[0] = out[1] =
		(struct timespec){ .tv_sec = (time_t)entry->mtime_s, .tv_nsec = entry->mtime_ns };
}

/* The owner before the mode: a change of owner takes bits of the mode away. */
int unpack_file_close(struct unpack_file *f, const struct tar_entry *entry,
		      const struct unpack_owner *owner, mode_t mode)
{
	auto_close int fd = take_fd(&f->fd);
	struct timespec times[2];

	unpack_times(entry, times);
	if (ftruncate(fd, (off_t)f->at_bytes) < 0 ||
	    (owner->set && fchown(fd, owner->uid, owner->gid) < 0) || fchmod(fd, mode) < 0 ||
	    futimens(fd, times) < 0)
		return -errno;
	return 0;
}
