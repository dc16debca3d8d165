/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/seal.h"

#include "base/str.h"
#include "os/sum.h"

#include <errno.h>
#include <sys/xattr.h>
#include <unistd.h>
#include <xxhash.h>

#define SEAL_NAME "user.vivarium.seal"

enum { SEAL_VERSION = 1 };

struct seal {
	uint64_t version;
	uint64_t sum;   /* file_sum() */
	uint64_t inode; /* of its mark; a device's number may be another one after a boot */
	uint64_t bytes;
	uint64_t changed_ns;
	uint64_t own_sum; /* XXH3 of what is before it */
};
static_assert(sizeof(struct seal) == 48, "no padding");

static uint64_t own_sum(const struct seal *seal)
{
	return XXH3_64bits(seal, offsetof(struct seal, own_sum));
}

/* Return: 1 it is there; 0 there is none; -EBADMSG there is something else; -errno. */
static int read_seal(int fd, struct seal *out)
{
	ssize_t n = fgetxattr(fd, SEAL_NAME, out, sizeof(*out));

	if (n < 0)
		return errno == ENODATA || errno == ENOTSUP ? 0
		       : errno == ERANGE                    ? -EBADMSG
							    : -errno;
	if ((size_t)n != sizeof(*out) || out->version != SEAL_VERSION ||
	    out->own_sum != own_sum(out))
		return -EBADMSG;
	return 1;
}

static bool same_looks(const struct seal *seal, const struct file_mark *mark)
{
	return seal->inode == mark->inode && seal->bytes == mark->bytes &&
	       seal->changed_ns == mark->changed_ns;
}

int seal_make(int fd, const struct op *op)
{
	struct seal seal = { .version = SEAL_VERSION };
	struct seal old;
	struct file_mark mark = { 0 };
	int r = read_seal(fd, &old);

	if (r != 0)
		return MIN(r, 0);
	/* A seal that outlives a power cut is of bytes that do, too. */
	r = fdatasync(fd) < 0 ? -errno : file_mark(fd, &mark);
	if (r == 0)
		r = file_sum(fd, op, &seal.sum);
	if (r < 0)
		return r;
	seal.inode = mark.inode;
	seal.bytes = mark.bytes;
	seal.changed_ns = mark.changed_ns;
	seal.own_sum = own_sum(&seal);
	if (fsetxattr(fd, SEAL_NAME, &seal, sizeof(seal), XATTR_CREATE) == 0)
		return 0;
	return errno == ENOTSUP || errno == EROFS || errno == EEXIST ? 0 : -errno;
}

static int compare(int fd, const struct seal *seal, const char *path, struct op *op)
{
	uint64_t sum = 0;
	int r = file_sum(fd, op, &sum);

	if (r < 0)
		return err_errno(&op->err, -r, "read disk layer %s", path);
	if (sum != seal->sum)
		return err_set(&op->err, ERR_INVALID,
			       "disk layer %s is damaged: its bytes are %016jx, and were %016jx",
			       path, (uintmax_t)sum, (uintmax_t)seal->sum);
	return 0;
}

int seal_check(int fd, const char *path, bool all, struct op *op)
{
	struct file_mark mark;
	struct seal seal;
	int r = read_seal(fd, &seal);

	if (r == 0)
		return 0;
	if (r > 0)
		r = file_mark(fd, &mark);
	if (r == -EBADMSG)
		return err_set(&op->err, ERR_INVALID,
			       "disk layer %s: its attribute " SEAL_NAME " is damaged; if the "
			       "layer is whole, remove that (setfattr -x)",
			       path);
	if (r < 0)
		return err_errno(&op->err, -r, "look at disk layer %s", path);
	return !all && same_looks(&seal, &mark) ? 0 : compare(fd, &seal, path, op);
}
