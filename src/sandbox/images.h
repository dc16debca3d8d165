/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether memory images are whole. An image is named by the checksum of its bytes, but to read all
 * of them for each sandbox that is made of it would cost as much as the rest of the restore (512
 * MiB: 80 ms). So a daemon reads each image once: behind its start, or before the first VM that
 * begins with it. From then on it believes in the file for as long as this is the same and nobody
 * wrote to it (struct file_mark).
 */
#pragma once

#include "base/op.h"

#include <stdatomic.h>

struct manager;

/** image_find() - the memory image in a directory. Return: 1 there is one; 0 there is none; -errno
 */
must_check int image_find(int dirfd, uint64_t *out_id);

/** image_name() - give a file in a directory the name of an image. Return: 0; -errno */
must_check int image_name(int dirfd, const char *from, uint64_t id);

/** image_open() - open an image for reading. Return: descriptor; -errno */
must_check int image_open(int dirfd, uint64_t id);

/** image_unlink() - take an image out of a directory. Return: 0; -errno */
must_check int image_unlink(int dirfd, uint64_t id);

/** image_link() - share an image with another directory; 0 = none, nothing to do. Return: 0; -errno
 */
must_check int image_link(int from_dirfd, int to_dirfd, uint64_t id);

/* Files that were read and found whole: of each a number that it alone has, at the place that this
 * gives. Where two share a place the later one is there, and the other will be read again. */
struct known_images {
	atomic_uint_fast64_t at[256];
};

/**
 * image_check() - whether an image's bytes are those that its name says
 * @dirfd:	of the checkpoint
 * @id:		0 = it has none, nothing to do
 *
 * Thread: worker, any number at once. Return: 0; -errno with op->err set (ERR_INVALID names the
 * checkpoint).
 */
must_check int image_check(struct known_images *known, int dirfd, uint64_t id, struct op *op);

/** image_note() - an image was read, from this very file, and is whole */
void image_note(struct known_images *known, int fd, uint64_t id);

/** images_start() - read the images of all templates, a while after the start, so that nobody has
 * to wait for it. Thread: loop; it ends by itself, or by images_cancel() */
void images_start(struct manager *m);

/** images_cancel() - at shutdown: end that */
void images_cancel(struct manager *m);
