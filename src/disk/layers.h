/* SPDX-License-Identifier: Apache-2.0 */
/* The numbered files of a disk's directory `layer/` (disk.c says what they are). */
#pragma once

#include "disk/disk-driver.h"

#include <limits.h>

#define LAYER_DIR "layer"
#define LAYER_TMP "layer.tmp"
#define BASE_FILE "base"

enum { LAYER_NAME_SIZE = 32 };

/* The numbers of a disk's layers, the top one first. */
struct layers {
	unsigned at[DISK_CHAIN_MAX];
	size_t n;
};

/** layer_path() - the path of an owner's `layer/`: for messages, and for names relative to it */
void layer_path(int dirfd, char out[PATH_MAX]);

/** layers_dir() - open an owner's `layer/`. Return: descriptor, owned; -errno */
must_check int layers_dir(int dirfd);

/** layer_name() - the file name of a layer */
void layer_name(const struct disk_ops *ops, unsigned number, char out[LAYER_NAME_SIZE]);

/** layers_list() - the layers in a directory. Return: 0; -E2BIG there are more than may be; -errno
 */
must_check int layers_list(const struct disk_ops *ops, int layer_fd, struct layers *out);

/**
 * layers_open() - open an owner's `layer/` and list what is in it: one layer at least
 * @layer:	gets its path
 *
 * Return: descriptor, owned; -errno with op->err set.
 */
must_check int layers_open(const struct disk_ops *ops, int dirfd, char layer[PATH_MAX],
			   struct layers *out, struct op *op);

/* A directory of layers. */
struct layer_dir {
	const struct disk_ops *ops;
	int fd;              /* borrowed */
	const char *path;    /* for messages */
	uint64_t size_bytes; /* of the disk */
};

/**
 * layer_open() - open a layer, and look whether it is one of this disk, and what it was
 * @top:	for writing, too; one that is not may be of a disk that was smaller, and be sealed
 *
 * Return: descriptor, owned; -errno with op->err set.
 */
must_check int layer_open(const struct layer_dir *dir, unsigned number, bool top, struct op *op);

/** layers_open_base() - open the base of a disk, and look whether it is what it was. Return:
 * descriptor, owned; -errno with op->err set */
must_check int layers_open_base(const struct layer_dir *dir, struct op *op);

/**
 * layer_below() - what a layer says is below it
 * @fd:		of the layer
 * @layers:	that are there, and @i the index of this one
 *
 * A guest's VMM may have changed it, so it is only compared with what is there.
 * Return: the index of it in @layers, > @i; 0 the base; -errno with op->err set: it is missing.
 */
must_check int layer_below(const struct layer_dir *dir, int fd, const struct layers *layers,
			   size_t i, struct op *op);

/** layers_follow() - the chain that a disk is: its top layer, what that says is below it, and so
 * on. A merge that was killed leaves others, too. Return: 0; -errno with op->err set */
must_check int layers_follow(const struct layer_dir *dir, struct layers *out, struct op *op);

/** layers_copy() - write a layer that reads as those of @run, which follow one another in the
 * chain, into the empty file @fd, durably. Return: 0; -errno with op->err set */
must_check int layers_copy(const struct layer_dir *dir, const struct layers *run, int fd,
			   struct op *op);

/**
 * layers_choose() - which layers of a chain are worth merging while a VM has it (merge.c says why)
 * @blocks:	what each takes, top first
 * @live:	how many of the top are still written to, >= 1
 *
 * Return: how many, from index @live on: 2 or more; 0 = none.
 */
size_t layers_choose(const uint64_t *blocks, size_t n, size_t live);

/** layers_merge() - make one of all layers in a directory, as disk_merge(). Return: 0; -errno with
 * op->err set */
must_check int layers_merge(const struct disk_ops *ops, int layer_fd, const char *layer,
			    uint64_t size_bytes, struct op *op);
