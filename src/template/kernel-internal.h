/* SPDX-License-Identifier: Apache-2.0 */
/* What the files behind kernel.h share. */
#pragma once

#include "template/kernel.h"

/* What names of temporary files begin with (stage_begin()): in kernels/, in a kernel's directory,
 * and, behind ".<template>", in templates/. */
#define KERNEL_STAGE           ".build-"
#define KERNEL_INITRAMFS_STAGE ".initramfs-"
#define TEMPLATE_STAGE         ".build-"

#define KERNEL_INITRAMFS_PREFIX "initramfs-"

enum { KERNEL_INITRAMFS_SIZE = 64 };

/** kernel_initramfs_name() - the name of the images with an agent. Return: 0; -errno with @e set */
must_check int kernel_initramfs_name(const char *agent_path, char out[KERNEL_INITRAMFS_SIZE],
				     struct err *e);

/* What decompression may give at most: a kernel with symbols is far below it. */
static const uint64_t KERNEL_BYTES_MAX = (uint64_t)256 << 20;

/**
 * inflate_to_fd() - decompress gzip, xz, lzma, bzip2, lz4 (also the kernel's legacy form) or zstd
 * @name:	what it is, for messages
 * @p:		compressed bytes
 * @out_fd:	written from its offset on; at most KERNEL_BYTES_MAX
 * @out_bytes:	how many were written; NULL = not asked for
 *
 * Return: 0; -errno with @e set.
 */
must_check int inflate_to_fd(const char *name, const void *p, size_t n, int out_fd,
			     uint64_t *out_bytes, struct err *e);

/* A whole file mapped for reading; `p` is NULL when the file is empty. */
struct mapped {
	const unsigned char *p;
	size_t n;
};

/** mapped_open() - map a file of ours below a directory. Return: 0; -errno */
must_check int mapped_open(int dirfd, const char *path, struct mapped *out);

/** mapped_done() - unmap; idempotent */
void mapped_done(struct mapped *m);

#define auto_mapped cleanup(mapped_done) struct mapped

/**
 * vmlinux_extract() - the uncompressed kernel out of a bzImage
 * @bzimage:	path
 * @out:	path of the new file
 *
 * Refuses what QEMU could not boot by PVH. Return: 0; -errno with @e set.
 */
must_check int vmlinux_extract(const char *bzimage, const char *out, struct err *e);

/**
 * modules_collect() - copy the modules that a guest needs, uncompressed, and write their order
 * @tree:	lib/modules/<version> of the kernel package
 * @out:	directory to make; gets the modules and "order", one file name a line
 *
 * Return: 0; -errno with @e set.
 */
must_check int modules_collect(const char *tree, const char *out, struct err *e);

/**
 * kernel_unpack() - make a kernel's directory out of its Debian package
 * @kernels_fd:	<state>/kernels
 * @stage:	absolute path of a temporary directory below it
 * @deb:	path of the package linux-image-<version>
 *
 * Return: 0 (also when another process was first); -errno with op->err set.
 */
must_check int kernel_unpack(int kernels_fd, const char *stage, const char *deb,
			     const char *version, struct op *op);

/* A file or directory being made under a temporary name; its lock tells the living from the dead.
 */
struct stage {
	int dirfd;     /* directory that holds it; borrowed */
	int fd;        /* holds the lock; owned; -1 = none */
	char name[64]; /* "" = none */
};

/**
 * stage_begin() - make an own temporary name, after removing those whose makers have died
 * @prefix:	names begin with it; starts with a dot
 * @directory:	make a directory, else a file for writing
 *
 * Return: 0; -errno.
 */
must_check int stage_begin(int dirfd, const char *prefix, bool directory, struct stage *out);

/** stage_commit() - give it its name, durably. Return: 0; -errno (-EEXIST, -ENOTEMPTY: it is taken)
 */
must_check int stage_commit(struct stage *s, const char *name);

/** stage_done() - remove what was not committed; idempotent */
void stage_done(struct stage *s);

#define auto_stage cleanup(stage_done) struct stage
