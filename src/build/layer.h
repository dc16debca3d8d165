/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A layer of an image: a tar stream that is put over a tree (OCI image specification, "layer").
 *
 * Theory of operation. Who made the stream is not trusted. A path is looked up as by a program that
 * has the tree for its root: openat2(RESOLVE_IN_ROOT), so links of lower layers lead where they
 * lead in the guest, and never out of the tree; ".." in the stream's own paths is refused. What is
 * in the way of a new entry is removed, with all below it, never written through; only a directory
 * over a directory keeps what is in it and gets the new one's attributes. The tree has to be ours
 * alone meanwhile.
 *
 * An entry ".wh.NAME" takes away NAME, and ".wh..wh..opq" all that is in its directory, of lower
 * layers only: what this layer made itself stays, wherever in the stream it comes (layer-made.h).
 */
#pragma once

#include "base/err.h"

struct layer;

/* What all layers of an image may hold together, and what could not be made of it. */
struct layer_account {
	uint64_t bytes_left;
	uint64_t entries_left;
	uint64_t devices_left_out; /* for want of the right to make them */
	uint64_t xattrs_left_out;  /* for want of a file system that takes them */
};

struct layer_spec {
	int root_fd;                   /* directory, opened for reading; borrowed */
	bool whiteouts;                /* else ".wh." is part of a name as any other */
	struct layer_account *account; /* borrowed */
};

/** layer_new() - begin; layer_free() ends it */
struct layer *layer_new(const struct layer_spec *spec);

/** layer_feed() - the next bytes of the stream. Return: 0; -errno with @e set, which names the path
 * (ERR_EXHAUSTED: more than the account allows) */
must_check int layer_feed(struct layer *l, const char *p, size_t n, struct err *e);

/** layer_finish() - the stream is over. Return: 0; -errno with @e set: it was cut */
must_check int layer_finish(struct layer *l, struct err *e);

/** layer_free() - close and free; what was made stays; NULL is allowed */
void layer_free(struct layer *l);
