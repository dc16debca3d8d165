/* SPDX-License-Identifier: Apache-2.0 */
/* What the files behind kernel_fetch() share: kernel.c, vmlinux.c, modules.c, inflate.c. */
#pragma once

#include "base/op.h"

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
