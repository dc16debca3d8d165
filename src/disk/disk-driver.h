/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a disk driver gives. disk.c makes and finds the layer's directory and files, so a driver
 * only knows what its file holds and how it is opened.
 */
#pragma once

#include "disk/disk.h"

struct disk_ops {
	const char *name;
	const char *file; /* in layer/; it is there = the layer is complete */

	/* Writes an empty layer over a base of @base_bytes into a new file @fd, which disk.c makes
	 * durable and renames. @layer is the directory's path. Return: 0; -errno, op->err set or
	 * not. */
	int (*fill)(int fd, const char *layer, const struct disk_spec *spec, uint64_t base_bytes,
		    struct op *op);

	/* Puts the layer's file, open as @fd, on top of the chain and what is below it after it;
	 * takes
	 * @fd only on success. Return: 0; -errno with op->err set. */
	int (*open)(int fd, const char *layer, const struct disk_spec *spec, struct disk *out,
		    struct op *op);

	/* The name of the base that a layer's file records, into an array of @size bytes.
	 * Return: 0; -errno: it cannot be told. */
	int (*base)(int fd, char *out, size_t size);
};

extern const struct disk_ops disk_qcow2;

/** disk_open_base() - open a base image read-only; it is a regular file no larger than the disk.
 * Return: descriptor, @out_bytes its size; -errno with op->err set (ERR_INVALID: names both sizes)
 */
must_check int disk_open_base(const struct disk_spec *spec, uint64_t *out_bytes, struct op *op);
