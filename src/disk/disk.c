/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A disk is the directory `layer/`: its layers are numbered files, the highest
 * on top, and `base` is the image of the template, a hard link, so that the template may go (or, if
 * that lies on another file system, a symbolic one). The first layer, and each that is put on top,
 * is written under a temporary name and renamed; so a numbered file is the mark of a complete
 * layer. What a killed process left is replaced by the next one and goes with the directory; a
 * complete layer is never overwritten.
 *
 * A layer that is put on top of a disk in use is made durable before it has its name, and so is the
 * directory: the disk would be lost with it. A new disk is not: all of it can be made again from
 * what it is made of, and nobody misses it until its owner is handed out. So disk_create() and
 * disk_clone() wait for no disk; disk_sync() does, once for all of it, while a VM is started, say.
 * Until then a power cut may leave any part of the disk, and its owner's record must say that it is
 * only being made.
 *
 * A layer that has another one above it is never written to again. So disks share them as hard
 * links, and the file system counts who still needs one.
 */
#include "disk/layers.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "disk/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define LAYER_NEW "layer.new"

enum { STAT_BLOCK_BYTES = 512, SECTOR_BYTES = 512, LINK_TRIES = 3 };

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

static int too_small(const struct disk_spec *spec, uint64_t base_bytes, struct op *op)
{
	return err_set(&op->err, ERR_INVALID,
		       "disk of %llu bytes is smaller than its base image %s of %llu bytes",
		       (unsigned long long)spec->size_bytes, spec->base_path,
		       (unsigned long long)base_bytes);
}

static int open_base(int dirfd, const char *path, const char *shown, struct op *op)
{
	auto_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	struct stat st;

	if (fd < 0)
		return err_errno(&op->err, errno, "open base image %s", shown);
	if (fstat(fd, &st) < 0)
		return err_errno(&op->err, errno, "stat base image %s", shown);
	if (!S_ISREG(st.st_mode))
		return err_set(&op->err, ERR_SYSTEM, "base image %s is no regular file", shown);
	return take_fd(&fd);
}

static int check_spec(const struct disk_spec *spec, struct op *op)
{
	auto_close int fd = open_base(AT_FDCWD, spec->base_path, spec->base_path, op);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return err_errno(&op->err, errno, "stat base image %s", spec->base_path);
	if ((uint64_t)st.st_size > spec->size_bytes)
		return too_small(spec, (uint64_t)st.st_size, op);
	if (spec->size_bytes == 0 || spec->size_bytes % SECTOR_BYTES != 0 ||
	    spec->size_bytes > INT64_MAX)
		return err_set(&op->err, ERR_INVALID,
			       "disk of %llu bytes: the size is a multiple of %d",
			       (unsigned long long)spec->size_bytes, SECTOR_BYTES);
	return 0;
}

/* Makes the base one of the disk's own files. */
static int link_base(int layer_fd, const char *base_path)
{
	auto_free char *real = realpath(base_path, NULL);

	if (real == NULL)
		return -errno;
	if (unlinkat(layer_fd, BASE_FILE, 0) < 0 && errno != ENOENT)
		return -errno;
	if (linkat(AT_FDCWD, real, layer_fd, BASE_FILE, 0) == 0)
		return 0;
	if (errno != EXDEV && errno != EMLINK)
		return -errno;
	return symlinkat(real, layer_fd, BASE_FILE) < 0 ? -errno : 0;
}

/* An empty layer that is to be. */
struct new_layer {
	const char *layer; /* path of the directory */
	const char *below; /* the name of the layer below it, or the path of the base */
	unsigned number;
	uint64_t size_bytes;
	bool durable; /* the disk is in use */
};

/* Writes an empty layer and gives it its name. */
static int add_layer(const struct disk_ops *ops, int layer_fd, const struct new_layer *new,
		     struct op *op)
{
	auto_close int fd = -1;
	char name[LAYER_NAME_SIZE];
	int r;

	if (unlinkat(layer_fd, LAYER_TMP, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(layer_fd, LAYER_TMP, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	r = ops->fill(fd, new->layer, new->below, new->size_bytes, op);
	if (r == 0 && new->durable && fsync(fd) < 0)
		r = -errno;
	layer_name(ops, new->number, name);
	if (r == 0 && renameat(layer_fd, LAYER_TMP, layer_fd, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(layer_fd, LAYER_TMP, 0);
	return r < 0 || !new->durable ? r : file_sync_dir(layer_fd);
}

static int make_first(const struct disk_ops *ops, int layer_fd, const char *layer,
		      const struct disk_spec *spec, struct op *op)
{
	const struct new_layer first = { .layer = layer,
					 .below = spec->base_path,
					 .size_bytes = spec->size_bytes };
	int r = check_spec(spec, op);

	if (r == 0)
		r = link_base(layer_fd, spec->base_path);
	return r < 0 ? r : add_layer(ops, layer_fd, &first, op);
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
	layer_fd = layers_dir(spec->dirfd);
	if (layer_fd < 0)
		return err_errno(&op->err, -layer_fd, "open disk layer %s", layer);
	r = make_first(ops, layer_fd, layer, spec, op);
	if (r == 0)
		return 0;
	ignore_err(file_remove_tree_at(spec->dirfd, LAYER_DIR)); /* the first error counts */
	return err_is_set(&op->err) ? r : err_errno(&op->err, -r, "make disk layer %s", layer);
}

/* Links everything in a directory of plain files into another one; but not @left_out. */
static int link_all(int from_fd, int to_fd, const char *left_out)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	int r = dir_open_at(from_fd, ".", 0, &d);

	while (r >= 0 && (r = dir_next(d, &entry)) > 0) {
		if (entry->d_name[0] == '.' || streq(entry->d_name, LAYER_TMP) ||
		    streq(entry->d_name, left_out))
			continue;
		if (linkat(from_fd, entry->d_name, to_fd, entry->d_name, 0) < 0)
			return -errno;
	}
	return r;
}

/* Puts an empty layer on top of those in @layer_fd; which of them is told here. */
static int extend_layers(const struct disk_ops *ops, int layer_fd, struct new_layer *new,
			 struct op *op)
{
	char below[LAYER_NAME_SIZE];
	struct layers layers;
	int r = layers_list(ops, layer_fd, &layers);

	if (r == 0 && layers.n == 0)
		r = -ENOENT;
	if (r < 0)
		return err_errno(&op->err, -r, "look for layers in %s", new->layer);
	if (layers.n >= DISK_CHAIN_MAX - 1) /* the base is one of the chain */
		return err_set(&op->err, ERR_EXHAUSTED, "disk %s has %zu layers, and no more fit",
			       new->layer, layers.n);
	layer_name(ops, layers.at[0], below);
	new->below = below;
	new->number = layers.at[0] + 1;
	r = add_layer(ops, layer_fd, new, op);
	new->below = NULL;
	if (r == 0 || err_is_set(&op->err))
		return r;
	return err_errno(&op->err, -r, "extend disk %s", new->layer);
}

int disk_extend(const struct disk_ops *ops, const struct disk_spec *spec, struct op *op)
{
	auto_close int layer_fd = layers_dir(spec->dirfd);
	char layer[PATH_MAX];
	struct new_layer next = { .layer = layer, .size_bytes = spec->size_bytes, .durable = true };

	layer_path(spec->dirfd, layer);
	if (layer_fd < 0)
		return err_errno(&op->err, -layer_fd, "open disk layer %s", layer);
	return extend_layers(ops, layer_fd, &next, op);
}

int disk_merge(const struct disk_ops *ops, const struct disk_spec *spec, struct op *op)
{
	auto_close int layer_fd = layers_dir(spec->dirfd);
	char layer[PATH_MAX];

	layer_path(spec->dirfd, layer);
	if (layer_fd < 0)
		return err_errno(&op->err, -layer_fd, "open disk layer %s", layer);
	return layers_merge(ops, layer_fd, layer, spec->size_bytes, op);
}

size_t disk_layers(const struct disk_ops *ops, int dirfd)
{
	auto_close int layer_fd = layers_dir(dirfd);
	struct layers layers = { .n = 0 };

	return layer_fd >= 0 && layers_list(ops, layer_fd, &layers) == 0 ? layers.n : 0;
}

/* Makes the directory of a disk under its temporary name. Return: descriptor; -errno. */
static int try_link(int from_fd, int to_dirfd, const char *left_out)
{
	auto_close int to_fd = -1;
	int r = file_remove_tree_at(to_dirfd, LAYER_NEW); /* of one that was killed */

	if (r < 0)
		return r;
	if (mkdirat(to_dirfd, LAYER_NEW, 0700) < 0)
		return -errno;
	to_fd = openat(to_dirfd, LAYER_NEW, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (to_fd < 0)
		return -errno;
	r = link_all(from_fd, to_fd, left_out);
	return r < 0 ? r : take_fd(&to_fd);
}

/* A layer that was listed and then is missing was merged meanwhile: what is there now counts. */
static int begin_link(int from_fd, int to_dirfd, const char *left_out)
{
	int r = -ENOENT;

	for (int tries = 0; tries < LINK_TRIES && r == -ENOENT; tries++)
		r = try_link(from_fd, to_dirfd, left_out);
	return r;
}

static int end_link(int to_fd, int to_dirfd, bool durable)
{
	int r = durable ? file_sync_dir(to_fd) : 0;

	if (r < 0)
		return r;
	if (renameat2(to_dirfd, LAYER_NEW, to_dirfd, LAYER_DIR, RENAME_NOREPLACE) < 0)
		return -errno;
	return durable ? file_sync_dir(to_dirfd) : 0;
}

/* Puts an own layer on what was shared, for which there must be room. */
static int make_writable(const struct disk_ops *ops, int layer_fd, const char *layer,
			 uint64_t size_bytes, struct op *op)
{
	struct new_layer own = { .layer = layer, .size_bytes = size_bytes };
	struct layers layers;
	int r = layers_list(ops, layer_fd, &layers);

	if (r == 0 && layers.n >= DISK_CHAIN_MAX - 1)
		r = layers_merge(ops, layer_fd, layer, size_bytes, op);
	return r < 0 ? r : extend_layers(ops, layer_fd, &own, op);
}

/* How a disk is shared. */
struct sharing {
	int from_dirfd;
	int to_dirfd;
	const char *left_out; /* a layer; "" = none */
	const struct disk_ops
		*extend;     /* with an own layer on top when it appears; NULL = without, durably */
	uint64_t size_bytes; /* of that */
};

static int share(const struct sharing *s, struct op *op)
{
	auto_close int from_fd = layers_dir(s->from_dirfd);
	auto_close int to_fd = -1;
	char from[PATH_MAX];
	char to[PATH_MAX];
	int r;

	layer_path(s->from_dirfd, from);
	layer_path(s->to_dirfd, to);
	if (from_fd < 0)
		return err_errno(&op->err, -from_fd, "open disk layer %s", from);
	to_fd = begin_link(from_fd, s->to_dirfd, s->left_out);
	r = to_fd < 0 ? to_fd : 0;
	if (r == 0 && s->extend != NULL)
		r = make_writable(s->extend, to_fd, to, s->size_bytes, op);
	if (r == 0)
		r = end_link(to_fd, s->to_dirfd, s->extend == NULL);
	if (r == 0)
		return 0;
	ignore_err(file_remove_tree_at(s->to_dirfd, LAYER_NEW)); /* the first error counts */
	return err_is_set(&op->err) ? r
				    : err_errno(&op->err, -r, "share the disk %s as %s", from, to);
}

int disk_link(int from_dirfd, int to_dirfd, struct op *op)
{
	const struct sharing s = { from_dirfd, to_dirfd, "", NULL, 0 };

	return share(&s, op);
}

int disk_clone(const struct disk_ops *ops, int from_dirfd, const struct disk_spec *spec,
	       struct op *op)
{
	const struct sharing s = { from_dirfd, spec->dirfd, "", ops, spec->size_bytes };

	return share(&s, op);
}

static int sync_layers(const struct disk_ops *ops, int layer_fd, unsigned top)
{
	char name[LAYER_NAME_SIZE];
	auto_close int fd = -1;

	layer_name(ops, top, name);
	fd = openat(layer_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fsync(fd) < 0)
		return -errno;
	return file_sync_dir(layer_fd);
}

int disk_sync(const struct disk_ops *ops, int dirfd, struct op *op)
{
	char layer[PATH_MAX];
	struct layers layers;
	auto_close int layer_fd = layers_open(ops, dirfd, layer, &layers, op);
	int r;

	if (layer_fd < 0)
		return layer_fd;
	r = sync_layers(ops, layer_fd, layers.at[0]); /* those below were durable before it */
	if (r == 0)
		r = file_sync_dir(dirfd);
	return r < 0 ? err_errno(&op->err, -r, "make disk %s durable", layer) : 0;
}

/* The name of a disk's top layer, when it is not the only one. Return: descriptor of layer/; -errno
 * with op->err set. */
static int open_above(const struct disk_ops *ops, int dirfd, char top[LAYER_NAME_SIZE],
		      struct op *op)
{
	char layer[PATH_MAX];
	struct layers layers;
	auto_close int layer_fd = layers_open(ops, dirfd, layer, &layers, op);

	if (layer_fd < 0)
		return layer_fd;
	if (layers.n < 2)
		return err_set(&op->err, ERR_INVALID, "disk %s has only one layer", layer);
	layer_name(ops, layers.at[0], top);
	return take_fd(&layer_fd);
}

int disk_link_below(const struct disk_ops *ops, int from_dirfd, int to_dirfd, struct op *op)
{
	char top[LAYER_NAME_SIZE];
	auto_close int layer_fd = open_above(ops, from_dirfd, top, op);
	const struct sharing s = { from_dirfd, to_dirfd, top, NULL, 0 };

	return layer_fd < 0 ? layer_fd : share(&s, op);
}

int disk_retract(const struct disk_ops *ops, int dirfd, struct op *op)
{
	char top[LAYER_NAME_SIZE];
	auto_close int layer_fd = open_above(ops, dirfd, top, op);
	int r;

	if (layer_fd < 0)
		return layer_fd;
	r = unlinkat(layer_fd, top, 0) < 0 ? -errno : file_sync_dir(layer_fd);
	return r < 0 ? err_errno(&op->err, -r, "remove the unused disk layer %s", top) : 0;
}

int disk_open_top(const struct disk_ops *ops, const struct disk_spec *spec, struct disk_image *out,
		  struct op *op)
{
	char layer[PATH_MAX];
	struct layers layers;
	auto_close int layer_fd = layers_open(ops, spec->dirfd, layer, &layers, op);
	const struct layer_dir dir = { ops, layer_fd, layer, spec->size_bytes };
	int fd;

	if (layer_fd < 0)
		return layer_fd;
	fd = layer_open(&dir, layers.at[0], true, op);
	if (fd < 0)
		return fd;
	*out = (struct disk_image){ .format = ops->format, .fd = fd };
	return 0;
}

int layers_open_base(const struct layer_dir *dir, struct op *op)
{
	auto_free char *path = str_printf("%s/" BASE_FILE, dir->path);
	auto_close int fd = open_base(dir->fd, BASE_FILE, path, op);
	int r = fd < 0 ? fd : seal_check(fd, path, false, op);

	return r < 0 ? r : take_fd(&fd);
}

static int open_chain(const struct layer_dir *dir, const struct layers *layers, struct disk *out,
		      struct op *op)
{
	int i = 0;
	int fd;

	do {
		fd = layer_open(dir, layers->at[i], i == 0, op);
		if (fd < 0)
			return fd;
		out->chain[out->n++] = (struct disk_image){ .format = dir->ops->format, .fd = fd };
		i = layer_below(dir, fd, layers, (size_t)i, op);
		if (i < 0)
			return i;
	} while (i > 0);
	fd = layers_open_base(dir, op);
	if (fd < 0)
		return fd;
	out->chain[out->n++] = (struct disk_image){ .format = DISK_RAW, .fd = fd };
	return 0;
}

int disk_open(const struct disk_ops *ops, const struct disk_spec *spec, struct disk *out,
	      struct op *op)
{
	cleanup(disk_done) struct disk disk = { .n = 0 };
	char layer[PATH_MAX];
	struct layers layers;
	auto_close int layer_fd = layers_open(ops, spec->dirfd, layer, &layers, op);
	const struct layer_dir dir = { ops, layer_fd, layer, spec->size_bytes };
	int r;

	if (layer_fd < 0)
		return layer_fd;
	if (layers.n >= DISK_CHAIN_MAX)
		return err_set(&op->err, ERR_SYSTEM, "disk %s has %zu layers, more than may be",
			       layer, layers.n);
	r = open_chain(&dir, &layers, &disk, op);
	if (r < 0)
		return r;
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
	int r = file_remove_tree_at(dirfd, LAYER_NEW);

	(void)ops;
	if (r == 0)
		r = file_remove_tree_at(dirfd, LAYER_DIR);
	if (r == 0)
		return 0;
	layer_path(dirfd, layer);
	return err_errno(&op->err, -r, "remove disk layer %s", layer);
}

int disk_exists(const struct disk_ops *ops, int dirfd, struct op *op)
{
	auto_close int layer_fd = layers_dir(dirfd);
	char layer[PATH_MAX];
	struct layers layers;
	int r;

	if (layer_fd == -ENOENT || layer_fd == -ENOTDIR)
		return 0;
	r = layer_fd < 0 ? layer_fd : layers_list(ops, layer_fd, &layers);
	if (r == 0)
		return layers.n > 0;
	layer_path(dirfd, layer);
	return err_errno(&op->err, -r, "look at disk layer %s", layer);
}

/* The base that the lowest layer of one driver records. */
static int base_of(const struct disk_ops *ops, int layer_fd, char *out, size_t size)
{
	auto_close int fd = -1;
	char name[LAYER_NAME_SIZE];
	struct layers layers;
	int r = layers_list(ops, layer_fd, &layers);

	if (r < 0)
		return r;
	if (layers.n == 0)
		return -ENOENT;
	layer_name(ops, layers.at[layers.n - 1], name);
	fd = openat(layer_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	return fd < 0 ? -errno : ops->base(fd, out, size);
}

int disk_base(int dirfd, char *out, size_t size)
{
	auto_close int layer_fd = layers_dir(dirfd);

	if (layer_fd == -ENOENT)
		return 0;
	if (layer_fd < 0)
		return layer_fd;
	for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
		int r = base_of(drivers[i], layer_fd, out, size);

		if (r != -ENOENT)
			return r < 0 ? r : 1;
	}
	return 0;
}

uint64_t disk_allocated(const struct disk_ops *ops, int dirfd)
{
	auto_close int layer_fd = layers_dir(dirfd);
	char name[LAYER_NAME_SIZE];
	struct layers layers = { .n = 0 };
	uint64_t bytes = 0;
	struct stat st;

	if (layer_fd < 0 || layers_list(ops, layer_fd, &layers) < 0)
		return 0;
	for (size_t i = 0; i < layers.n; i++) {
		layer_name(ops, layers.at[i], name);
		if (fstatat(layer_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			bytes += (uint64_t)st.st_blocks * STAT_BLOCK_BYTES;
	}
	return bytes;
}
