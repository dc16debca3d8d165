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
	uint64_t owned_pages;  /* that the guest owned */
	uint64_t stored_pages; /* of these, with bytes in the file */
	uint64_t zero_pages;   /* of these, recorded as zeros */
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

/* Pages that were copied out of a guest, to be written while it runs on. */
struct memory_capture;

/**
 * memory_capture_new() - get room for what a running guest will own in a moment, and touch it, so
 * that the copy is not slowed by page faults
 *
 * Where the kernel can tell what is written to from now on (ram_track()), it is copied as well, and
 * what is left for memory_capture_take() is little. @ram's process is borrowed until
 * memory_capture_free(). Return: 0; -errno with @e set (ERR_EXHAUSTED: no memory for the copy).
 */
must_check int memory_capture_new(const struct ram *ram, struct memory_capture **out,
				  struct err *e);

/** memory_capture_take() - complete the copy of what the guest, which is paused, owns. Return: 0;
 * -errno, @e set */
must_check int memory_capture_take(struct memory_capture *c, struct err *e);

/** memory_capture_save() - as memory_save(), from the copy; may be called once */
must_check int memory_capture_save(struct memory_capture *c, const struct memory_image *image,
				   int fd, struct memory_stat *out, struct op *op);

/** memory_capture_free() - give the room back; NULL is allowed */
void memory_capture_free(struct memory_capture *c);

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
