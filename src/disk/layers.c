/* SPDX-License-Identifier: Apache-2.0 */
#include "disk/layers.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "disk/seal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define NUMBER_FORMAT "%u.%s"

/* The path of the layer's directory: for messages, and for names relative to it. */
void layer_path(int dirfd, char out[PATH_MAX])
{
	char link[64];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dirfd);
	n = readlink(link, out, PATH_MAX - sizeof("/" LAYER_DIR));
	n = MAX(n, 0);
	snprintf(out + n, PATH_MAX - (size_t)n, "/" LAYER_DIR);
}

int layers_dir(int dirfd)
{
	int fd = openat(dirfd, LAYER_DIR, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

void layer_name(const struct disk_ops *ops, unsigned number, char out[LAYER_NAME_SIZE])
{
	snprintf(out, LAYER_NAME_SIZE, NUMBER_FORMAT, number, ops->suffix);
}

/* Whether a name is that of a layer: a number as we write it, and the driver's suffix. */
static bool parse_layer(const struct disk_ops *ops, const char *name, unsigned *out)
{
	char again[LAYER_NAME_SIZE];
	unsigned number = 0;

	for (const char *p = name; *p >= '0' && *p <= '9' && number < 1000000; p++)
		number = number * 10 + (unsigned)(*p - '0');
	layer_name(ops, number, again);
	*out = number;
	return streq(again, name);
}

static int compare_layers(const void *a, const void *b)
{
	const unsigned *x = a;
	const unsigned *y = b;

	return (*x < *y) - (*x > *y);
}

/* Return: 0; -E2BIG there are more than may be; -errno. */
int layers_list(const struct disk_ops *ops, int layer_fd, struct layers *out)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	unsigned number;
	struct stat st;
	int r = dir_open_at(layer_fd, ".", 0, &d);

	out->n = 0;
	while (r >= 0 && (r = dir_next(d, &entry)) > 0) {
		if (!parse_layer(ops, entry->d_name, &number) ||
		    fstatat(layer_fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
		    !S_ISREG(st.st_mode))
			continue;
		if (out->n == ARRAY_SIZE(out->at))
			return -E2BIG;
		out->at[out->n++] = number;
	}
	if (r < 0)
		return r;
	qsort(out->at, out->n, sizeof(out->at[0]), compare_layers);
	return 0;
}

int layers_open(const struct disk_ops *ops, int dirfd, char layer[PATH_MAX], struct layers *out,
		struct op *op)
{
	auto_close int layer_fd = layers_dir(dirfd);
	int r;

	layer_path(dirfd, layer);
	if (layer_fd < 0)
		return err_errno(&op->err, -layer_fd, "open disk layer %s", layer);
	r = layers_list(ops, layer_fd, out);
	if (r == 0 && out->n == 0)
		r = -ENOENT;
	if (r < 0)
		return err_errno(&op->err, -r, "look for layers in %s", layer);
	return take_fd(&layer_fd);
}

int layer_open(const struct layer_dir *dir, unsigned number, bool top, struct op *op)
{
	auto_close int fd = -1;
	auto_free char *path = NULL;
	char name[LAYER_NAME_SIZE];
	int r;

	layer_name(dir->ops, number, name);
	path = str_printf("%s/%s", dir->path, name);
	fd = openat(dir->fd, name, (top ? O_RDWR : O_RDONLY) | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY);
	if (fd < 0)
		return err_errno(&op->err, errno, "open disk layer %s", path);
	r = dir->ops->check(fd, path, dir->size_bytes, top, op);
	if (r == 0 && !top)
		r = seal_check(fd, path, false, op);
	return r < 0 ? r : take_fd(&fd);
}

int layer_below(const struct layer_dir *dir, int fd, const struct layers *layers, size_t i,
		struct op *op)
{
	char name[LAYER_NAME_SIZE];
	char below[PATH_MAX];
	unsigned number;

	layer_name(dir->ops, layers->at[i], name);
	if (dir->ops->base(fd, below, sizeof(below)) < 0)
		return err_set(&op->err, ERR_SYSTEM,
			       "disk layer %s/%s: its header does not tell what is below it",
			       dir->path, name);
	if (!parse_layer(dir->ops, below, &number))
		return 0;
	for (size_t j = i + 1; j < layers->n; j++) {
		if (layers->at[j] == number)
			return (int)j;
	}
	return err_set(&op->err, ERR_SYSTEM, "disk layer %s/%s is missing, and %s lies over it",
		       dir->path, below, name);
}

int layers_follow(const struct layer_dir *dir, struct layers *out, struct op *op)
{
	struct layers all = { .n = 0 };
	int r = layers_list(dir->ops, dir->fd, &all);
	int i = 0;

	if (r == 0 && all.n == 0)
		r = -ENOENT;
	if (r < 0)
		return err_errno(&op->err, -r, "look for layers in %s", dir->path);
	out->n = 0;
	do {
		auto_close int fd = layer_open(dir, all.at[i], false, op);

		if (fd < 0)
			return fd;
		out->at[out->n++] = all.at[i];
		i = layer_below(dir, fd, &all, (size_t)i, op);
	} while (i > 0);
	return i;
}

struct layer_fds {
	int at[DISK_CHAIN_MAX];
	size_t n;
};

static void layer_fds_done(struct layer_fds *fds)
{
	for (size_t i = 0; i < fds->n; i++)
		fd_close(&fds->at[i]);
}

int layers_copy(const struct layer_dir *dir, const struct layers *run, int fd, struct op *op)
{
	cleanup(layer_fds_done) struct layer_fds fds = { .n = 0 };
	int r;

	for (size_t i = 0; i < run->n; i++) {
		fds.at[i] = layer_open(dir, run->at[i], false, op);
		if (fds.at[i] < 0)
			return fds.at[i];
		fds.n++;
	}
	r = dir->ops->merge(fds.at, fds.n, fd, dir->size_bytes, op);
	if (r == 0 && fsync(fd) < 0)
		r = -errno;
	if (r == 0 || err_is_set(&op->err))
		return r;
	return err_errno(&op->err, -r, "merge the layers in %s", dir->path);
}

static int merge_into(const struct layer_dir *dir, const struct layers *chain, struct op *op)
{
	auto_close int fd = -1;

	if (unlinkat(dir->fd, LAYER_TMP, 0) < 0 && errno != ENOENT)
		return -errno;
	fd = openat(dir->fd, LAYER_TMP, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : layers_copy(dir, chain, fd, op);
}

/* What the top one holds now; the lowest goes last, since it tells of the base until then. */
static int drop_lower(const struct disk_ops *ops, int layer_fd, const struct layers *layers)
{
	char name[LAYER_NAME_SIZE];

	for (size_t i = 1; i < layers->n; i++) {
		layer_name(ops, layers->at[i], name);
		if (unlinkat(layer_fd, name, 0) < 0 && errno != ENOENT)
			return -errno;
	}
	return file_sync_dir(layer_fd);
}

/* The new layer takes the place of the top one, with which the others still read as before. */
int layers_merge(const struct disk_ops *ops, int layer_fd, const char *layer, uint64_t size_bytes,
		 struct op *op)
{
	const struct layer_dir dir = {
		.ops = ops, .fd = layer_fd, .path = layer, .size_bytes = size_bytes
	};
	char name[LAYER_NAME_SIZE];
	struct layers chain = { .n = 0 };
	struct layers layers = { .n = 0 };
	int r = layers_list(ops, layer_fd, &layers);

	if (r == 0 && layers.n < 2)
		return 0;
	if (r == 0)
		r = layers_follow(&dir, &chain, op);
	if (r == 0)
		r = merge_into(&dir, &chain, op);
	layer_name(ops, layers.at[0], name);
	if (r == 0 && renameat(layer_fd, LAYER_TMP, layer_fd, name) < 0)
		r = -errno;
	if (r < 0)
		unlinkat(layer_fd, LAYER_TMP, 0);
	if (r == 0)
		r = file_sync_dir(layer_fd);
	if (r == 0)
		r = drop_lower(ops, layer_fd, &layers);
	if (r == 0 || err_is_set(&op->err))
		return r;
	return err_errno(&op->err, -r, "merge the layers in %s", layer);
}
