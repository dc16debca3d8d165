/* SPDX-License-Identifier: Apache-2.0 */
/* A file as what it was before it was compressed, or as it is, with the digests of both. */
#pragma once

#include "base/err.h"
#include "base/sha256.h"

#include <sys/types.h>

struct archive;
struct unwrap;

/** unwrap_filters() - let libarchive decompress gzip, xz, bzip2 and zstd, and nothing by programs
 * of the host. Return: whether it can */
bool unwrap_filters(struct archive *a);

/**
 * unwrap_open() - begin; unwrap_free() ends it
 * @name:	what it is, for messages; borrowed
 * @fd:		regular file, read from where it stands; borrowed
 *
 * Return: 0; -errno with @e set.
 */
must_check int unwrap_open(const char *name, int fd, struct unwrap **out, struct err *e);

/** unwrap_read() - the next bytes. Return: how many, 0 = the end; -errno with @e set: the file
 * cannot be read, or what it holds is corrupt */
must_check ssize_t unwrap_read(struct unwrap *u, char *p, size_t n, struct err *e);

/** unwrap_digests() - of the whole file and of all that was read; after the end, once */
void unwrap_digests(struct unwrap *u, char out_file[SHA256_HEX_SIZE],
		    char out_data[SHA256_HEX_SIZE]);

/** unwrap_free() - end it; NULL is allowed */
void unwrap_free(struct unwrap *u);
