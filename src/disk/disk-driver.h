/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a disk driver gives. disk.c makes and finds the layer's directory and files, so a driver
 * only knows what its file holds and how it is opened.
 */
#pragma once

#include "disk/disk.h"

struct disk_ops {
	const char *name;
	const char *suffix; /* of its files in layer/, without the dot */
	enum disk_format format;

	/* Writes an empty layer into a new file @fd, which disk.c makes durable and renames. What
	 * is below it is @below: the name of the layer there, of the same format, or the absolute
	 * path of the base, which is raw. @layer is the directory's path. Return: 0; -errno,
	 * op->err set or not. */
	int (*fill)(int fd, const char *layer, const char *below, uint64_t size_bytes,
		    struct op *op);

	/* Looks at a layer's file before a VMM gets it: whether it is one, and of a disk of this
	 * size, or, if it is not @top, of one that was smaller before it grew. @name is its path,
	 * for messages. Return: 0; -errno with op->err set. */
	int (*check)(int fd, const char *name, uint64_t size_bytes, bool top, struct op *op);

	/* The name of the base that a layer's file records, into an array of @size bytes.
	 * Return: 0; -errno: it cannot be told. */
	int (*base)(int fd, char *out, size_t size);

	/* Writes one layer that reads as several over one another do, into a new file @fd.
	 * @fds: of these, top first, each of which check() passed. Return: 0; -errno, op->err set
	 * or not. */
	int (*merge)(const int *fds, size_t n, int fd, uint64_t size_bytes, struct op *op);

	/* Writes what several layers over one another have into a raw file @fd that reads as their
	 * base does, at its place; it may become longer than the disk. @fds: as for merge(). */
	int (*overlay)(const int *fds, size_t n, int fd, uint64_t size_bytes, struct op *op);
};

extern const struct disk_ops disk_qcow2;
