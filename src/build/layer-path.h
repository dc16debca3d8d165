/* SPDX-License-Identifier: Apache-2.0 */
/* Paths below a tree that is, for them, the root. */
#pragma once

#include "base/macros.h"

#include <sys/types.h>

/**
 * layer_open_dir() - open a directory of a tree
 * @path:	clean, "" = the root; its links are followed within the tree
 * @flags:	of open(2), beside O_DIRECTORY: O_PATH or O_RDONLY, O_NOFOLLOW for its last part
 *
 * Return: fd; -errno.
 */
must_check int layer_open_dir(int root_fd, const char *path, int flags);

/**
 * layer_make_dirs() - open a directory, making what is missing of it, with mode 0755
 * @made:	told of each directory that is made: the inode of where, and its name; may be NULL
 *
 * Return: fd (O_PATH); -errno.
 */
must_check int layer_make_dirs(int root_fd, const char *path,
			       int (*made)(ino_t dir, const char *name, void *arg), void *arg);

/** layer_inode() - the inode of an open directory. Return: 0; -errno */
must_check int layer_inode(int dir_fd, ino_t *out);

/**
 * layer_open_file() - open a regular file of a tree for reading
 * @path:	of anybody's; it is looked up with the tree for its root
 * @out_bytes:	its size
 *
 * Nothing else is ever opened: a device may act on that. Return: fd; -ENOENT; -EINVAL it is no
 * regular file; -errno.
 */
must_check int layer_open_file(int root_fd, const char *path, uint64_t *out_bytes);
