/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write disks: one interface, several drivers. A disk lies in a directory of its owner, a
 * sandbox or a checkpoint, as `layer/`: layers over one another, over a base image that is shared.
 * Only the top one is ever written to; the others may be shared with other disks. All functions
 * block (workers) and need nothing but the owner's directory.
 */
#pragma once

#include "base/op.h"

enum disk_format { DISK_RAW, DISK_QCOW2 };

enum { DISK_CHAIN_MAX = 16 };

/* An open disk for a VMM: images top first; all but the first are read-only. */
struct disk_image {
	enum disk_format format;
	int fd; /* owned; -1 */
};

struct disk {
	struct disk_image chain[DISK_CHAIN_MAX];
	size_t n;
};

struct disk_spec {
	int dirfd;             /* the owner's directory; borrowed */
	const char *base_path; /* raw image of the template; absolute; for disk_create() */
	uint64_t size_bytes;   /* as the guest sees it; >= the base's size */
};

struct disk_ops;

/** disk_driver() - find a driver by name ("qcow2"), or the default with NULL; NULL if unknown */
const struct disk_ops *disk_driver(const char *name);

/** disk_name() - the driver's name */
const char *disk_name(const struct disk_ops *ops);

/**
 * disk_create() - make a disk of one empty layer over a base; disk_sync() makes it durable
 *
 * Return: 0; -errno with op->err set (ERR_INVALID: smaller than the base, names both sizes).
 */
must_check int disk_create(const struct disk_ops *ops, const struct disk_spec *spec, struct op *op);

/**
 * disk_extend() - put a new empty layer on top of a disk, durably; the one below is not written to
 * any more (but by a VMM that has it open, until that is told)
 *
 * Return: 0; -errno with op->err set (ERR_EXHAUSTED: it has DISK_CHAIN_MAX - 1 layers already).
 */
must_check int disk_extend(const struct disk_ops *ops, const struct disk_spec *spec, struct op *op);

/**
 * disk_link() - make a disk that shares all layers of another one, durably
 * @from_dirfd:	the owner of the other one, whose top layer is written to no more
 * @to_dirfd:	the new owner, which has no disk; on the same file system
 *
 * No VMM may have the new one: that is what disk_clone() is for. Neither needs the other from here
 * on: the layers are hard links. Return: 0; -errno with op->err set, and nothing is left.
 */
must_check int disk_link(int from_dirfd, int to_dirfd, struct op *op);

/**
 * disk_clone() - disk_link() and disk_extend() in one: the disk appears with its own top layer, or
 * not at all, so nobody ever writes to what is shared
 * @spec:	of the new disk; its owner has none
 *
 * If it had no room for one more layer it is merged first. disk_sync() makes it durable.
 * Return: 0; -errno with op->err set, and nothing is left.
 */
must_check int disk_clone(const struct disk_ops *ops, int from_dirfd, const struct disk_spec *spec,
			  struct op *op);

/**
 * disk_sync() - make a disk that was made just now durable, also while a VMM writes to it
 *
 * Until it returned, a power cut may leave any part of the disk. The names in the directory that
 * @dirfd is in are the caller's. Return: 0; -errno with op->err set.
 */
must_check int disk_sync(const struct disk_ops *ops, int dirfd, struct op *op);

/**
 * disk_export() - write what a disk that no VMM has reads as into an empty file, raw and sparse
 * @spec:	of it
 *
 * Return: 0; -errno with op->err set.
 */
must_check int disk_export(const struct disk_ops *ops, const struct disk_spec *spec, int fd,
			   struct op *op);

/** disk_layers() - how many layers a disk has; 0 if that cannot be told */
size_t disk_layers(const struct disk_ops *ops, int dirfd);

/**
 * disk_merge() - make one layer of all layers of a disk that no VMM has
 * @spec:	of it
 *
 * Whenever it is killed, or cancelled, the disk is what it was; others that share its layers keep
 * theirs. Return: 0; -errno with op->err set, and it is as it was.
 */
must_check int disk_merge(const struct disk_ops *ops, const struct disk_spec *spec, struct op *op);

/* A merge of layers below the top one of a disk that a VM has. */
struct disk_merge {
	int layer_fd;    /* of the disk's directory; owned; -1 */
	int fd;          /* the new layer, which has no name yet; owned; -1 = none */
	int old_fd;      /* the layer whose place it takes; owned; -1 */
	unsigned number; /* of that */
};

#define DISK_MERGE_INIT                                                                            \
	{                                                                                          \
		.layer_fd = -1, .fd = -1, .old_fd = -1                                             \
	}

/**
 * disk_merge_begin() - write one layer in place of several, if that is worth it; the disk stays as
 * it is, and its VM goes on
 * @live:	how many layers at the top may still be written to, >= 1; no other is
 * @out:	DISK_MERGE_INIT
 *
 * It takes as long as copying them; op->cancel_fd ends it. What is killed leaves nothing.
 * Return: 1 disk_merge_end() is next; 0 it is not worth it; -errno with op->err set.
 */
must_check int disk_merge_begin(const struct disk_ops *ops, const struct disk_spec *spec,
				size_t live, struct disk_merge *out, struct op *op);

/**
 * disk_merge_end() - put it in place; the layers that it holds go, as does what a killed merge left
 * @m:	of disk_merge_begin(), or DISK_MERGE_INIT; done with afterwards
 *
 * A merge of what is not there any more, since the disk was replaced, or merged otherwise, is
 * dropped. A VM has the old layers, unlinked, until it is told of the new one.
 *
 * Return: 1 the chain is another one; 0 it is as it was; -errno with op->err set: one of the two.
 */
must_check int disk_merge_end(const struct disk_ops *ops, const struct disk_spec *spec,
			      struct disk_merge *m, struct op *op);

/**
 * disk_seal() - record what the files of a disk are which are written to no more, as far as that
 * was not done; whoever opens them later is told if they are not that any more
 * @live:	how many layers at the top may still be written to
 *
 * It takes as long as reading them; op->cancel_fd ends it, and what was done stays.
 * Return: 0; -errno with op->err set.
 */
must_check int disk_seal(const struct disk_ops *ops, const struct disk_spec *spec, size_t live,
			 struct op *op);

/**
 * disk_verify() - read all of a disk that nobody has, and compare it with what was recorded
 *
 * Return: 0; -errno with op->err set: what is damaged or missing.
 */
must_check int disk_verify(const struct disk_ops *ops, const struct disk_spec *spec, struct op *op);

/** disk_sweep() - remove the layer that a killed process left half made; no operation has the disk.
 * Return: 0 (also if absent); -errno */
must_check int disk_sweep(int dirfd);

/** disk_merge_done() - forget a merge; idempotent */
void disk_merge_done(struct disk_merge *m);

/**
 * disk_link_below() - as disk_link(), but all layers but the top one: of a disk whose VMM goes on,
 * and writes to the top one
 */
must_check int disk_link_below(const struct disk_ops *ops, int from_dirfd, int to_dirfd,
			       struct op *op);

/**
 * disk_retract() - take away the layer that disk_extend() put on top, when no VMM ever had it
 *
 * The only layer of a disk is never taken away. Return: 0; -errno with op->err set.
 */
must_check int disk_retract(const struct disk_ops *ops, int dirfd, struct op *op);

/** disk_open_top() - open only a disk's top layer, for writing; the caller owns out->fd. Return: as
 * disk_open() */
must_check int disk_open_top(const struct disk_ops *ops, const struct disk_spec *spec,
			     struct disk_image *out, struct op *op);

/** disk_open() - open a disk for a VMM, its top layer for writing. Return: 0; -errno with op->err
 * set: what is missing or damaged */
must_check int disk_open(const struct disk_ops *ops, const struct disk_spec *spec, struct disk *out,
			 struct op *op);

/** disk_done() - close the descriptors; idempotent */
void disk_done(struct disk *d);

/** disk_release() - delete a disk's own part; ITS DATA IS GONE unless other disks share it. Return:
 * 0 (also if absent); -errno */
must_check int disk_release(const struct disk_ops *ops, int dirfd, struct op *op);

/** disk_exists() - whether a complete disk is there. Return: 1; 0; -errno with op->err set */
must_check int disk_exists(const struct disk_ops *ops, int dirfd, struct op *op);

/**
 * disk_base() - the name of the base image that a sandbox's layer records, whatever its driver: an
 * absolute path, or one that begins at the layer's directory
 * @dirfd:	the sandbox's directory
 * @out:	array of @size bytes
 *
 * What it says is not to be trusted, but a layer without its base is lost. Return: 1; 0 there is no
 * complete layer; -errno it cannot be told.
 */
must_check int disk_base(int dirfd, char *out, size_t size);

/** disk_allocated() - bytes that a disk's layers take on the host (st_blocks), shared ones too; 0
 * if absent */
uint64_t disk_allocated(const struct disk_ops *ops, int dirfd);
