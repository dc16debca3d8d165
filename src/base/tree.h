/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macros.h"

/**
 * tree_allocated() - what a file, or a directory with all below it, takes on its file system
 * @out_bytes:	allocated blocks, not apparent sizes; a file of several names counts once
 *
 * Follows no link but @path itself, and enters no other file system. What disappears meanwhile is
 * not counted. Return: 0; -ENOENT; -errno.
 */
must_check int tree_allocated(const char *path, uint64_t *out_bytes);

/** tree_own() - as tree_allocated(), without files that have names elsewhere, too: what deleting it
 * frees */
must_check int tree_own(const char *path, uint64_t *out_bytes);
