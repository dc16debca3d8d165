/* SPDX-License-Identifier: Apache-2.0 */
/* Which names a layer made itself: a set of directory and name, by a hash of 64 bits each. Two that
 * are taken for one cost an image that was made for it a file it has hidden, and nobody else. */
#pragma once

#include "base/macros.h"

#include <sys/types.h>

struct layer_made {
	uint64_t *slots; /* owned; 0 = free */
	size_t n;
	size_t cap; /* a power of two, or 0 */
};

/** layer_made_done() - free; idempotent */
void layer_made_done(struct layer_made *made);

/** layer_made_add() - note a name of the directory with inode @dir. Return: 0; -ENOMEM */
must_check int layer_made_add(struct layer_made *made, ino_t dir, const char *name);

/** layer_made_has() - whether it was noted */
bool layer_made_has(const struct layer_made *made, ino_t dir, const char *name);
