/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the names in a directory. readdir(3) tells an error by errno alone, and who does not look
 * takes a directory that could not be read for an empty one: what is in it would be taken for gone,
 * or written anew. So directories are read here only.
 */
#pragma once

#include "base/macros.h"

#include <dirent.h>

/**
 * dir_open_at() - open a directory to read its names
 * @dirfd:	directory, or AT_FDCWD
 * @path:	below it; "." reads @dirfd from its beginning, wherever others are in it
 * @flags:	O_NOFOLLOW or 0
 * @out:	auto_dir closes it
 *
 * Return: 0; -errno.
 */
must_check int dir_open_at(int dirfd, const char *path, int flags, DIR **out);

/**
 * dir_next() - the next name, but for "." and ".."
 * @out:	borrowed until the next call
 *
 * Return: 1; 0 the end; -errno.
 */
must_check int dir_next(DIR *d, const struct dirent **out);

/** dir_close() - clean-up handler; NULL is allowed */
void dir_close(DIR **d);

#define auto_dir cleanup(dir_close) DIR
