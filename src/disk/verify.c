/* SPDX-License-Identifier: Apache-2.0 */
/* The files of a disk that are written to no more: sealed, and read again (seal.h). */
#include "base/fd.h"
#include "base/str.h"
#include "disk/layers.h"
#include "disk/seal.h"

#include <errno.h>
#include <stdlib.h>

/* What is done with each of them; @path is for messages. */
typedef int (*file_fn)(int fd, const char *path, struct op *op);

static int each_layer(const struct layer_dir *dir, const struct layers *layers, size_t live,
		      file_fn fn, struct op *op)
{
	char name[LAYER_NAME_SIZE];
	int r = 0;

	for (size_t i = live; i < layers->n && r == 0; i++) {
		auto_close int fd = layer_open(dir, layers->at[i], false, op);
		auto_free char *path = NULL;

		if (fd < 0)
			return fd;
		layer_name(dir->ops, layers->at[i], name);
		path = str_printf("%s/%s", dir->path, name);
		r = fn(fd, path, op);
	}
	return r;
}

static int each_file(const struct disk_ops *ops, const struct disk_spec *spec, size_t live,
		     file_fn fn, struct op *op)
{
	char path[PATH_MAX];
	struct layers layers;
	auto_close int layer_fd = layers_open(ops, spec->dirfd, path, &layers, op);
	const struct layer_dir dir = { ops, layer_fd, path, spec->size_bytes };
	auto_free char *base = str_printf("%s/" BASE_FILE, path);
	auto_close int base_fd = -1;
	int r;

	if (layer_fd < 0)
		return layer_fd;
	r = each_layer(&dir, &layers, live, fn, op);
	if (r < 0)
		return r;
	base_fd = layers_open_base(&dir, op);
	return base_fd < 0 ? base_fd : fn(base_fd, base, op);
}

static int make(int fd, const char *path, struct op *op)
{
	int r = seal_make(fd, op);

	if (r == -ECANCELED)
		return err_set(&op->err, ERR_CANCELLED, "seal disk layer %s: cancelled", path);
	return r < 0 ? err_errno(&op->err, -r, "seal disk layer %s", path) : 0;
}

int disk_seal(const struct disk_ops *ops, const struct disk_spec *spec, size_t live, struct op *op)
{
	return each_file(ops, spec, live, make, op);
}

static int read_all(int fd, const char *path, struct op *op)
{
	return seal_check(fd, path, true, op);
}

int disk_verify(const struct disk_ops *ops, const struct disk_spec *spec, struct op *op)
{
	return each_file(ops, spec, 0, read_all, op);
}
