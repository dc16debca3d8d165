/* SPDX-License-Identifier: Apache-2.0 */
/* What all need that make files of a tar stream: clean paths, and files with holes. */
#pragma once

#include "base/err.h"
#include "base/tar.h"

#include <time.h>

/**
 * unpack_path() - a path of a stream as a clean one: no "..", no root, no "." and no double slash
 * @out:	new memory, "" for the top; caller frees
 *
 * Return: 0; -EINVAL with @e set.
 */
must_check int unpack_path(const char *path, char **out, struct err *e);

/* The file under way. */
struct unpack_file {
	int fd; /* owned; -1 = none */
	uint64_t at_bytes;
};

/** unpack_file_write() - add bytes; zeros are left out. Return: 0; -errno */
must_check int unpack_file_write(struct unpack_file *f, const char *p, size_t n);

/** unpack_times() - the time of an entry, twice, as utimensat(2) wants them */
void unpack_times(const struct tar_entry *entry, struct timespec out[2]);
