/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes the archives that Linux unpacks as initramfs: cpio in the format "newc"
 * (Documentation/driver-api/early-userspace/buffer-format.rst). Owners are root, times are 0, so
 * that the same contents are the same bytes.
 */
#pragma once

#include "base/macros.h"

#include <sys/types.h>

struct cpio_entry {
	const char *path; /* without a leading slash */
	mode_t mode;
	unsigned device_major; /* of a device */
	unsigned device_minor;
	const void *data; /* of a regular file; borrowed */
	size_t n;         /* below 4 GiB */
};

/* An archive being written. It owns nothing. */
struct cpio {
	int fd; /* written from its offset on; borrowed */
	uint32_t entries;
};

/** cpio_add() - write an entry. Return: 0; -EFBIG; -errno */
must_check int cpio_add(struct cpio *cpio, const struct cpio_entry *entry);

/** cpio_end() - write what ends the archive. Return: 0; -errno */
must_check int cpio_end(struct cpio *cpio);
