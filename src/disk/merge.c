/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. While a VM has a disk, layers below its top one become one: each checkpoint
 * puts a layer on a disk, and however many are made the chain stays short.
 *
 * Merging has two parts. The long one only reads: layers that have another one above them never
 * change, so they are copied into a file without a name while the guest goes on. The short one
 * gives this file the name of the highest of the run; it reads as that one did, with all below it.
 * From then on those between are nobody's here, and go. A kill at any moment leaves the one chain
 * or the other, and maybe files that nothing refers to, which the next merge removes. Others that
 * share the layers keep theirs.
 *
 * Which ones: as many from the highest downwards as there are, so that none is bigger than all the
 * others of them together. So a byte is copied again only when what it lies in at least doubles,
 * however many checkpoints are made, and those that are left form a ladder whose steps double. Only
 * when that ladder would get too long the smallest of them, which lie on top, are merged all the
 * same.
 */
#include "disk/layers.h"

#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MERGE_FROM = 8, MERGE_FULL = DISK_CHAIN_MAX - 2, MERGE_LEAST = 4 };

/* The file of each layer of a chain, top first. */
static void sizes_of(const struct disk_ops *ops, int layer_fd, const struct layers *chain,
		     uint64_t out_blocks[DISK_CHAIN_MAX])
{
	char name[LAYER_NAME_SIZE];
	struct stat st;

	for (size_t i = 0; i < chain->n; i++) {
		layer_name(ops, chain->at[i], name);
		out_blocks[i] = fstatat(layer_fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0
					? (uint64_t)st.st_blocks
					: 0;
	}
}

size_t layers_choose(const uint64_t *blocks, size_t n, size_t live)
{
	uint64_t sum = 0;
	uint64_t most = 0;
	size_t best = 0;

	if (n < MERGE_FROM || live + 1 >= n)
		return 0;
	for (size_t run = 1; live + run <= n; run++) {
		uint64_t next = blocks[live + run - 1];

		sum += next;
		most = MAX(most, next);
		if (run >= 2 && most <= sum / 2)
			best = run;
	}
	return n >= MERGE_FULL ? MAX(best, MIN((size_t)MERGE_LEAST, n - live)) : best;
}

/* Opens a disk's directory, and follows its chain. @path: PATH_MAX bytes, for messages.
 * Return: descriptor; -errno with op->err set. */
static int open_chain(const struct disk_ops *ops, const struct disk_spec *spec, char path[PATH_MAX],
		      struct layers *out, struct op *op)
{
	auto_close int layer_fd = layers_dir(spec->dirfd);
	struct layer_dir dir = {
		.ops = ops, .fd = layer_fd, .path = path, .size_bytes = spec->size_bytes
	};
	int r;

	layer_path(spec->dirfd, path);
	if (layer_fd < 0)
		return err_errno(&op->err, -layer_fd, "open disk layer %s", path);
	r = layers_follow(&dir, out, op);
	return r < 0 ? r : take_fd(&layer_fd);
}

/* A file that is nobody's until it gets a name. */
static int make_nameless(int layer_fd, struct op *op)
{
	int fd = openat(layer_fd, ".", O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

	return fd < 0 ? err_errno(&op->err, errno, "make a file to merge layers into") : fd;
}

static int open_layer(const struct disk_ops *ops, int layer_fd, unsigned number)
{
	char name[LAYER_NAME_SIZE];

	layer_name(ops, number, name);
	return openat(layer_fd, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
}

/* Copies a run into a new file, which with the directory moves to @out. */
static int copy_run(const struct layer_dir *dir, const struct layers *run, struct disk_merge *out,
		    struct op *op)
{
	auto_close int layer_fd = fcntl(dir->fd, F_DUPFD_CLOEXEC, 3);
	auto_close int old_fd = open_layer(dir->ops, dir->fd, run->at[0]);
	auto_close int fd = -1;
	int r;

	if (layer_fd < 0 || old_fd < 0)
		return err_errno(&op->err, errno, "open disk layer %s again", dir->path);
	fd = make_nameless(layer_fd, op);
	if (fd < 0)
		return fd;
	r = layers_copy(dir, run, fd, op);
	if (r < 0)
		return r;
	*out = (struct disk_merge){ .layer_fd = take_fd(&layer_fd),
				    .fd = take_fd(&fd),
				    .old_fd = take_fd(&old_fd),
				    .number = run->at[0] };
	return 1;
}

int disk_merge_begin(const struct disk_ops *ops, const struct disk_spec *spec, size_t live,
		     struct disk_merge *out, struct op *op)
{
	uint64_t blocks[DISK_CHAIN_MAX];
	char path[PATH_MAX];
	struct layers chain = { .n = 0 };
	struct layers run = { .n = 0 };
	auto_close int layer_fd = open_chain(ops, spec, path, &chain, op);
	const struct layer_dir dir = {
		.ops = ops, .fd = layer_fd, .path = path, .size_bytes = spec->size_bytes
	};

	if (layer_fd < 0)
		return layer_fd;
	sizes_of(ops, layer_fd, &chain, blocks);
	run.n = layers_choose(blocks, chain.n, live);
	if (run.n == 0)
		return 0;
	memcpy(run.at, &chain.at[live], run.n * sizeof(run.at[0]));
	return copy_run(&dir, &run, out, op);
}

static bool same_file(int a, int b)
{
	struct stat x;
	struct stat y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	       x.st_ino == y.st_ino;
}

/* Whether the disk still has what was merged: a resume or a rollback makes another directory,
 * another merge another file of this number. While that is the same all below it are, since every
 * merge begins at the highest that it may, and so none below it. */
static bool still_fits(const struct disk_ops *ops, const struct disk_merge *m, int layer_fd)
{
	auto_close int old_fd = -1;

	if (m->fd < 0 || layer_fd < 0 || !same_file(layer_fd, m->layer_fd))
		return false;
	old_fd = open_layer(ops, layer_fd, m->number);
	return old_fd >= 0 && same_file(old_fd, m->old_fd);
}

/* Gives the file its name, in place of the highest of those that it holds. */
static int put_in_place(const struct disk_ops *ops, const struct disk_merge *m)
{
	auto_free char *path = str_printf("/proc/self/fd/%d", m->fd);
	char name[LAYER_NAME_SIZE];

	layer_name(ops, m->number, name);
	if (unlinkat(m->layer_fd, LAYER_TMP, 0) < 0 && errno != ENOENT)
		return -errno;
	if (linkat(AT_FDCWD, path, m->layer_fd, LAYER_TMP, AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	if (renameat(m->layer_fd, LAYER_TMP, m->layer_fd, name) < 0)
		return -errno;
	return file_sync_dir(m->layer_fd);
}

/* Removes the layers that the chain does not lead to. */
static int drop_bypassed(const struct disk_ops *ops, int layer_fd, const struct layers *chain)
{
	char name[LAYER_NAME_SIZE];
	struct layers all;
	size_t next = 0;
	int r = layers_list(ops, layer_fd, &all);

	for (size_t i = 0; i < all.n && r == 0; i++) {
		if (next < chain->n && all.at[i] == chain->at[next]) {
			next++;
			continue;
		}
		layer_name(ops, all.at[i], name);
		if (unlinkat(layer_fd, name, 0) < 0 && errno != ENOENT)
			r = -errno;
	}
	return r < 0 ? r : file_sync_dir(layer_fd);
}

int disk_merge_end(const struct disk_ops *ops, const struct disk_spec *spec, struct disk_merge *m,
		   struct op *op)
{
	auto_close int layer_fd = layers_dir(spec->dirfd);
	auto_close int again_fd = -1;
	bool fits = still_fits(ops, m, layer_fd);
	struct layers chain = { .n = 0 };
	char path[PATH_MAX];
	int r = fits ? put_in_place(ops, m) : 0;

	disk_merge_done(m);
	if (r < 0)
		return err_errno(&op->err, -r, "put a merged disk layer in place");
	again_fd = open_chain(ops, spec, path, &chain, op);
	if (again_fd < 0)
		return again_fd;
	r = drop_bypassed(ops, again_fd, &chain);
	return r < 0 ? err_errno(&op->err, -r, "remove merged layers of %s", path) : fits;
}

int disk_sweep(int dirfd)
{
	auto_close int layer_fd = layers_dir(dirfd);

	if (layer_fd == -ENOENT)
		return 0;
	if (layer_fd < 0)
		return layer_fd;
	return unlinkat(layer_fd, LAYER_TMP, 0) < 0 && errno != ENOENT ? -errno : 0;
}

void disk_merge_done(struct disk_merge *m)
{
	fd_close(&m->fd);
	fd_close(&m->old_fd);
	fd_close(&m->layer_fd);
}
