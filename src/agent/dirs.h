/* SPDX-License-Identifier: Apache-2.0 */
/* Directories on the way to what a client makes. */
#pragma once

#include "agent/user.h"

/**
 * dirs_make() - make a directory and its parents, 0755
 * @path:	absolute
 * @owner:	who owns those that are made
 *
 * Return: 0 (also if it is there); -ENOTDIR a part of the path is none; -errno.
 */
must_check int dirs_make(const char *path, const struct user *owner);

/** dirs_make_parent() - dirs_make() of the directory that a path lies in */
must_check int dirs_make_parent(const char *path, const struct user *owner);
