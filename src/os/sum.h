/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a file is still the one that it was: by what the kernel tells of it, and by all its
 * bytes. */
#pragma once

#include "base/op.h"

/*
 * What tells without reading it that a file is another one, or was written to. The time of its
 * last change of any kind (ctime) is no part of this: each new link to it, and each that goes, sets
 * that. So who writes to a file and sets its times back is found by its bytes alone.
 */
struct file_mark {
	uint64_t device;
	uint64_t inode;
	uint64_t bytes;
	uint64_t changed_ns; /* when its bytes changed (mtime), CLOCK_REALTIME */
};
static_assert(sizeof(struct file_mark) == 32, "no padding: it is hashed and compared as bytes");

/** file_mark() - look at an open file. Return: 0; -errno */
must_check int file_mark(int fd, struct file_mark *out);

/**
 * file_sum() - checksum (XXH3) of all bytes of a file, as they are now
 * @fd:	open for reading; borrowed; its offset moves
 *
 * Holes are not read, but their zeros count; about 6 GB/s of both. Thread: worker. Return: 0;
 * -ECANCELED, -ETIMEDOUT by @op, whose error is not set; -errno.
 */
must_check int file_sum(int fd, const struct op *op, uint64_t *out);
