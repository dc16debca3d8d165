/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files, mapped for reading. */
#pragma once

#include "base/macros.h"

/* A whole file mapped for reading; `p` is NULL when the file is empty. */
struct mapped {
	const unsigned char *p;
	size_t n;
};

/**
 * mapped_open() - map a regular file of ours, which nobody truncates, below a directory
 *
 * Return: 0; -EINVAL it is no regular file; -errno.
 */
must_check int mapped_open(int dirfd, const char *path, struct mapped *out);

/** mapped_done() - unmap; idempotent */
void mapped_done(struct mapped *m);

#define auto_mapped cleanup(mapped_done) struct mapped
