/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files that hold a guest's memory.
 *
 * An *image* is all of it, byte for byte, sparse: VMs map it privately and share its page cache. A
 * *diff* is what differs from an image, or from zeros where there is none: one file for any number
 * of generations, since it is always taken against the image and never against another diff.
 *
 * A diff is little-endian: a header of 4096 bytes; the pages of all runs that have bytes, one
 * behind the other; the table of runs. Each run has a checksum (XXH3) of its pages, the header one
 * of the table and one of itself; it is written last, so a file that was cut off has none. Pages
 * that became zero over a non-zero page of the image are runs without bytes.
 *
 * It is a log: a page may be in several runs, and the last one holds. So most of it is written
 * while the guest runs, and what changed since is added when it stands still.
 */
#pragma once

#include "base/op.h"
#include "vmm/ram.h"

/* An image, mapped for reading. */
struct memory_image {
	const unsigned char *bytes; /* NULL = there is none: zeros */
	uint64_t size_bytes;
	uint64_t id; /* memory_image_checksum() of it: diffs against it say so; 0 = none */
};

#define MEMORY_IMAGE_INIT                                                                          \
	{                                                                                          \
		.bytes = NULL                                                                      \
	}

/** memory_image_map() - map the image of a file; @fd is borrowed. Return: 0; -errno with @e set */
must_check int memory_image_map(int fd, uint64_t id, struct memory_image *out, struct err *e);

/** memory_image_checksum() - of all its bytes; never 0; reads all of it */
uint64_t memory_image_checksum(const struct memory_image *image);

/** memory_image_done() - unmap it; idempotent */
void memory_image_done(struct memory_image *image);

/* What a diff came to. */
struct memory_stat {
	uint64_t owned_pages;  /* that the guest owned when it stood still */
	uint64_t stored_pages; /* with bytes in the file, each as often as it is there */
	uint64_t zero_pages;   /* recorded as zeros, so, too */
	uint64_t file_bytes;
};

/**
 * memory_save() - write what a paused guest owns and the image has not
 * @image:	what its memory began with
 * @fd:		an empty file, for reading and writing; borrowed; not synced here
 *
 * In bounded memory. Thread: worker. Return: 0; -errno with op->err set.
 */
must_check int memory_save(const struct ram *ram, const struct memory_image *image, int fd,
			   struct memory_stat *out, struct op *op);

/* A diff that is begun while the guest runs. */
struct memory_saving;

/**
 * memory_saving_new() - write what a guest owns and the image has not, as far as that can be done
 * while it runs
 * @image:	what its memory began with; moved out
 * @fd:		an empty file, for reading and writing; moved out; not synced here
 *
 * Where the kernel cannot tell what is written to from now on (ram_track()), nothing is written
 * yet. What the guest changes meanwhile is written again, until that is little, and stays in the
 * file twice. @ram's process is borrowed until memory_saving_free().
 *
 * Thread: worker. Return: 0; -errno with op->err set.
 */
must_check int memory_saving_new(const struct ram *ram, struct memory_image *image, int *fd,
				 struct memory_saving **out, struct op *op);

/** memory_saving_push() - begin to bring to the disk what is written so far, so that who syncs it
 * waits less; whoever uses the disk meanwhile waits longer. Thread: worker */
void memory_saving_push(struct memory_saving *s);

/** memory_saving_room() - get room for what memory_saving_copy() will copy, and touch it, so that
 * the copy is not slowed by page faults. Return: 0; -errno with @e set (ERR_EXHAUSTED: no memory)
 */
must_check int memory_saving_room(struct memory_saving *s, struct err *e);

/** memory_saving_copy() - with room, copy what is not written yet out of the guest, which is paused
 * and may run on then. Return: 0; -errno with @e set */
must_check int memory_saving_copy(struct memory_saving *s, struct err *e);

/** memory_saving_finish() - write the rest: the copy, or, where there is none, what the paused
 * guest has; may be called once. Return: 0; -errno with op->err set */
must_check int memory_saving_finish(struct memory_saving *s, struct memory_stat *out,
				    struct op *op);

/** memory_saving_free() - end the tracking, give back all that it has; NULL is allowed. It may take
 * a millisecond per GiB, in which the guest waits if it needs a page */
void memory_saving_free(struct memory_saving *s);

/**
 * memory_restore() - put the pages of a diff into a paused guest that began with the same image
 * @fd:		the diff; borrowed
 * @image_id:	of that image; 0 = none
 *
 * Every byte is checked before it is used. Return: 0; -errno with op->err set: ERR_INVALID when the
 * file is cut off, damaged, of other sizes, or belongs to another image.
 */
must_check int memory_restore(const struct ram *ram, uint64_t image_id, int fd, struct op *op);

/** memory_verify() - check all of a diff. Return: 0; -errno with op->err set, as above */
must_check int memory_verify(int fd, uint64_t ram_bytes, uint64_t image_id, struct op *op);

/**
 * memory_merge() - write an image: another one with the pages of a diff over it
 * @image:	may be none
 * @diff_fd:	the diff; borrowed
 * @fd:		an empty file; becomes sparse where the memory is zero; not synced here
 *
 * Return: 0; -errno with op->err set, as memory_restore().
 */
must_check int memory_merge(const struct memory_image *image, int diff_fd, uint64_t ram_bytes,
			    int fd, struct op *op);
