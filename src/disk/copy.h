/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes from file to file, for drivers of disks. */
#pragma once

#include "base/macros.h"

/** disk_write_at() - write all of it. Return: 0; -errno */
must_check int disk_write_at(int fd, const void *p, size_t n, uint64_t off_bytes);

/**
 * disk_copy_range() - copy a part of a file into another one, sharing its blocks if that can be
 *
 * What lies behind the end of @from is zeros, as in a new file. Return: 0; -errno.
 */
must_check int disk_copy_range(int from, uint64_t in, int to, uint64_t out, uint64_t bytes);
