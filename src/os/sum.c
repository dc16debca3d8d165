/* SPDX-License-Identifier: Apache-2.0 */
#include "os/sum.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum { PIECE_BYTES = 128 << 10 };

int file_mark(int fd, struct file_mark *out)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	*out = (struct file_mark){
		.device = st.st_dev,
		.inode = st.st_ino,
		.bytes = (uint64_t)st.st_size,
		.changed_ns = (uint64_t)st.st_mtim.tv_sec * NS_PER_S + (uint64_t)st.st_mtim.tv_nsec,
	};
	return 0;
}

/* A sum under way: the pieces of the file are read into the first half of the buffer, the other one
 * stays zero. */
struct summing {
	int fd;
	const struct op *op;
	XXH3_state_t *state;   /* owned */
	unsigned char *pieces; /* two; owned */
	uint64_t at_bytes;
};

static void summing_done(struct summing *s)
{
	XXH3_freeState(s->state);
	free(s->pieces);
}

/* Zeros up to @end. */
static int add_hole(struct summing *s, uint64_t end)
{
	while (s->at_bytes < end) {
		uint64_t n = MIN(end - s->at_bytes, (uint64_t)PIECE_BYTES);
		int r = op_check(s->op);

		if (r < 0)
			return r;
		XXH3_64bits_update(s->state, s->pieces + PIECE_BYTES, n);
		s->at_bytes += n;
	}
	return 0;
}

/* What is in the file up to @end. */
static int add_data(struct summing *s, uint64_t end)
{
	while (s->at_bytes < end) {
		uint64_t n = MIN(end - s->at_bytes, (uint64_t)PIECE_BYTES);
		int r = op_check(s->op);
		ssize_t got = r < 0 ? 0 : pread(s->fd, s->pieces, n, (off_t)s->at_bytes);

		if (r < 0)
			return r;
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -EIO; /* it was cut off meanwhile */
		XXH3_64bits_update(s->state, s->pieces, (size_t)got);
		s->at_bytes += (uint64_t)got;
	}
	return 0;
}

static int add_all(struct summing *s, uint64_t bytes)
{
	int r = 0;

	while (r == 0 && s->at_bytes < bytes) {
		off_t data = lseek(s->fd, (off_t)s->at_bytes, SEEK_DATA);
		off_t hole = data < 0 ? -1 : lseek(s->fd, data, SEEK_HOLE);

		if (data < 0 && errno == ENXIO) /* nothing but a hole is left */
			return add_hole(s, bytes);
		if (hole < 0) /* a file system that knows of no holes */
			return add_data(s, bytes);
		r = add_hole(s, MIN((uint64_t)data, bytes));
		if (r == 0)
			r = add_data(s, MIN((uint64_t)hole, bytes));
	}
	return r;
}

int file_sum(int fd, const struct op *op, uint64_t *out)
{
	cleanup(summing_done) struct summing s = { .fd = fd, .op = op };
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return -errno;
	s.state = XXH3_createState();
	s.pieces = calloc(2, PIECE_BYTES);
	if (s.state == NULL || s.pieces == NULL)
		return -ENOMEM;
	XXH3_64bits_reset(s.state);
	r = add_all(&s, (uint64_t)st.st_size);
	if (r < 0)
		return r;
	*out = XXH3_64bits_digest(s.state);
	return 0;
}
