/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A layer is the directory `layer/` with one file that the driver names. The
 * file is written under a temporary name, made durable, renamed, and the directories are made
 * durable; so the file's name is the mark of a complete layer. A temporary file that a killed
 * create left is replaced by the next one and goes with the directory; a complete layer is never
 * overwritten.
 */
#include "disk/disk-driver.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYER_DIR "layer"
#define TMP_FILE  "layer.tmp"

enum { STAT_BLOCK_BYTES = 512, SECTOR_BYTES = 512 };

static const struct disk_ops *const drivers[] = { &disk_qcow2 };

const struct disk_ops *disk_driver(const char *name)
{
	if (name == NULL)
		return drivers[0];
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		if (streq(drivers[i]->name, name))
			return drivers[i];
	}
	return NULL;
}

const char *disk_name(const struct disk_ops *ops)
{
	return ops->name;
}

/* The path of the layer's directory: for messages, and for names relative to it. */
static void layer_path(int dirfd, char out[PATH_MAX])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	n = readlink(link, out, PATH_MAX - sizeof("/" LAYER_DIR));
	n = MAX(n, 0);
	snprintf(out + n, PATH_MAX - (size_t)n, "/" LAYER_DIR);
}

static int open_layer(int dirfd)
{
	int fd = openat(dirfd, LAYER_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int too_small(const struct disk_spec *spec, uint64_t base_bytes, struct op *op)
{
	return err_set(&op->err, ERR_INVALID,
		       "disk of %llu bytes is smaller than its base image %s of %llu bytes",
		       (unsigned long long)spec->size_bytes, spec->base_path,
		       (unsigned long long)base_bytes);
}

int disk_open_base(const struct disk_spec *spec, uint64_t *out_bytes, struct op *op)
{
	auto_close int fd = open(spec->base_path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return err_errno(&op->err, errno, "open base image %s", spec->base_path);
	if (fstat(fd, &st) < 0)
		return err_errno(&op->err, errno, "stat base image %s", spec->base_path);
	if (!S_ISREG(st.st_mode))
		return err_set(&op->err, ERR_SYSTEM, "base image %s is no regular file",
			       spec->base_path);
	if ((uint64_t)st.st_size > spec->size_bytes)
		return too_small(spec, (uint64_t)st.st_size, op);
	*out_bytes = (uint64_t)st.st_size;
	return take_fd(&fd);
}

static int check_spec(const struct disk_spec *spec, uint64_t *out_base_bytes, struct op *op)
{
	auto_close int fd = disk_open_base(spec, out_base_bytes, op);

	if (fd < 0)
		return fd;
	if (spec->size_bytes == 0 || spec->size_bytes % SECTOR_BYTES != 0 ||
	    spec->size_bytes > INT64_MAX)
		return err_set(&op->err, ERR_INVALID,
			       "disk of %llu bytes: the size is a multiple of %d",
			       (unsigned long long)spec->size_bytes, SECTOR_BYTES);
	return 0;
}

/* Writes the driver's file under the temporary name and makes its bytes durable. */
static int write_tmp(const struct disk_ops *ops, int layer_fd, const char *layer,
		     const struct disk_spec *spec, struct op *op)
{
	auto_close int fd = -1;
	uint64_t base_bytes = 0;
	int r = check_spec(spec, &base_bytes, op);

	if (r < 0)
		return r;
	if (unlinkat(layer_fd, TMP_FILE, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(layer_fd, TMP_FILE, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = ops->fill(fd, layer, spec, base_bytes, op);
	if (r < 0)
		return r;
	return fsync(fd) < 0 ? -errno : 0;
}

static int publish(const struct disk_ops *ops, int layer_fd, int dirfd)
{
	int r;

	if (renameat(layer_fd, TMP_FILE, layer_fd, ops->file) < 0)
		return -errno;
	r = file_sync_dir(layer_fd);
	return r < 0 ? r : file_sync_dir(dirfd);
}

int disk_create(const struct disk_ops *ops, const struct disk_spec *spec, struct op *op)
{
	auto_close int layer_fd = -1;
	char layer[PATH_MAX];
	int r = disk_exists(ops, spec->dirfd, op);

	if (r < 0)
		return r;
	layer_path(spec->dirfd, layer);
	if (r == 1)
		return err_set(&op->err, ERR_CONFLICT, "make disk layer %s: there is one already",
			       layer);
	if (mkdirat(spec->dirfd, LAYER_DIR, 0700) < 0 && errno != EEXIST)
		return err_errno(&op->err, errno, "make disk layer %s", layer);
	layer_fd = open_layer(spec->dirfd);
	if (layer_fd < 0)
		return err_errno(&op->err, -layer_fd, "open disk layer %s", layer);
	r = write_tmp(ops, layer_fd, layer, spec, op);
	if (r == 0)
		r = publish(ops, layer_fd, spec->dirfd);
	if (r == 0)
		return 0;
	unlinkat(layer_fd, TMP_FILE, 0);
	unlinkat(spec->dirfd, LAYER_DIR, AT_REMOVEDIR);
	return err_is_set(&op->err) ? r : err_errno(&op->err, -r, "make disk layer %s", layer);
}

int disk_open(const struct disk_ops *ops, const struct disk_spec *spec, struct disk *out,
	      struct op *op)
{
	auto_close int layer_fd = open_layer(spec->dirfd);
	cleanup(disk_done) struct disk disk = { .n = 0 };
	auto_close int fd = -1;
	char layer[PATH_MAX];
	int r;

	layer_path(spec->dirfd, layer);
	if (layer_fd < 0)
		return err_errno(&op->err, -layer_fd, "open disk layer %s", layer);
	fd = openat(layer_fd, ops->file, O_RDWR | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_errno(&op->err, errno, "open disk layer %s/%s", layer, ops->file);
	r = ops->open(fd, layer, spec, &disk, op);
	if (r < 0)
		return r;
	fd = -1; /* owned by the disk */
	*out = disk;
	disk.n = 0;
	return 0;
}

void disk_done(struct disk *d)
{
	for (size_t i = 0; i < d->n; i++)
		fd_close(&d->chain[i].fd);
	d->n = 0;
}

int disk_release(const struct disk_ops *ops, int dirfd, struct op *op)
{
	char layer[PATH_MAX];
	int r = file_remove_tree_at(dirfd, LAYER_DIR);

	(void)ops;
	if (r == 0)
		return 0;
	layer_path(dirfd, layer);
	return err_errno(&op->err, -r, "remove disk layer %s", layer);
}

int disk_exists(const struct disk_ops *ops, int dirfd, struct op *op)
{
	char layer[PATH_MAX];
	char path[NAME_MAX];
	struct stat st;
	int r = str_fit(path, sizeof(path), LAYER_DIR "/%s", ops->file);

	assert(r == 0);
	if (fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) == 0)
		return S_ISREG(st.st_mode) ? 1 : 0;
	if (errno == ENOENT || errno == ENOTDIR)
		return 0;
	r = -errno;
	layer_path(dirfd, layer);
	return err_errno(&op->err, -r, "look at disk layer %s", layer);
}

int disk_base(int dirfd, char *out, size_t size)
{
	auto_close int layer_fd = open_layer(dirfd);

	if (layer_fd == -ENOENT)
		return 0;
	if (layer_fd < 0)
		return layer_fd;
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		auto_close int fd = openat(layer_fd, drivers[i]->file,
					   O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
		int r = fd < 0 ? -errno : drivers[i]->base(fd, out, size);

		if (r != -ENOENT)
			return r < 0 ? r : 1;
	}
	return 0;
}

uint64_t disk_allocated(const struct disk_ops *ops, int dirfd)
{
	char path[NAME_MAX];
	struct stat st;

	if (str_fit(path, sizeof(path), LAYER_DIR "/%s", ops->file) < 0 ||
	    fstatat(dirfd, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return 0;
	return (uint64_t)st.st_blocks * STAT_BLOCK_BYTES;
}
