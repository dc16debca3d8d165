/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy-on-write disks: one interface, several drivers. A sandbox's layer lies in its directory
 * (`layer/`), over a base image that is read-only and shared. All functions block (workers) and
 * need nothing but the directory to release.
 */
#pragma once

#include "base/op.h"

enum disk_format { DISK_RAW, DISK_QCOW2 };

enum { DISK_CHAIN_MAX = 8 };

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
	int dirfd;             /* the sandbox's directory; borrowed */
	const char *base_path; /* raw image of the template; absolute */
	uint64_t size_bytes;   /* as the guest sees it; >= the base's size */
};

struct disk_ops;

/** disk_driver() - find a driver by name ("qcow2"), or the default with NULL; NULL if unknown */
const struct disk_ops *disk_driver(const char *name);

/** disk_name() - the driver's name */
const char *disk_name(const struct disk_ops *ops);

/** disk_create() - make an empty layer over a base (temporary name, fsync, rename).
 * Return: 0; -errno with op->err set (ERR_INVALID: smaller than the base, names both sizes) */
must_check int disk_create(const struct disk_ops *ops, const struct disk_spec *spec, struct op *op);

/** disk_open() - open a layer and what is below it for a VMM. Return: 0; -errno with op->err set */
must_check int disk_open(const struct disk_ops *ops, const struct disk_spec *spec, struct disk *out,
			 struct op *op);

/** disk_done() - close the descriptors; idempotent */
void disk_done(struct disk *d);

/** disk_release() - delete a sandbox's layer; DATA IS GONE. Return: 0 (also if absent); -errno */
must_check int disk_release(const struct disk_ops *ops, int dirfd, struct op *op);

/** disk_exists() - whether a complete layer is there. Return: 1; 0; -errno with op->err set */
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

/** disk_allocated() - bytes that a sandbox's layer takes on the host (st_blocks), 0 if absent */
uint64_t disk_allocated(const struct disk_ops *ops, int dirfd);
