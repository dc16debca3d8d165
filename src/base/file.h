/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/buf.h"

/**
 * file_read_at() - read a whole small file
 * @dirfd:	directory, or AT_FDCWD
 * @path:	below it
 * @out:	bytes are appended; its maximum bounds what is read
 *
 * Return: 0; -EMSGSIZE when it is larger than @out allows; -errno.
 */
must_check int file_read_at(int dirfd, const char *path, struct buf *out);

/**
 * file_write_atomic_at() - replace a file durably: temporary name, fsync, rename, fsync of the
 * folder
 * @mode:	permission bits of the new file
 *
 * After a crash the file is the old one or the new one. Return: 0; -errno.
 */
must_check int file_write_atomic_at(int dirfd, const char *path, const void *p, size_t n,
				    unsigned mode);

/** file_write_hint_at() - as file_write_atomic_at(), for what need not outlive the host: no fsync
 */
must_check int file_write_hint_at(int dirfd, const char *path, const void *p, size_t n,
				  unsigned mode);

/** file_write_at() - write into an existing file (a kernel file in /proc or /sys). Return: 0;
 * -errno */
must_check int file_write_at(int dirfd, const char *path, const char *text);

/** file_mkdirs() - make a directory and its parents, 0755 & ~umask. Return: 0 (also if there);
 * -errno */
must_check int file_mkdirs(const char *path);

/**
 * file_remove_tree_at() - remove a file or directory with all below it, never following links
 *
 * Return: 0 (also when absent); -errno of the first failure, after removing all that could be.
 */
must_check int file_remove_tree_at(int dirfd, const char *path);

/** file_sync_dir() - make the names in a directory durable. Return: 0; -errno */
must_check int file_sync_dir(int dirfd);
