/* SPDX-License-Identifier: Apache-2.0 */
/* A template's image as bare QEMU restores it. */
#pragma once

#include "vmm/vmm.h"

#define FLOOR_IMAGE_INIT                                                                           \
	{                                                                                          \
		.devices_fd = -1, .image_fd = -1, .diff_fd = -1, .shim_fd = -1                     \
	}

/**
 * floor_image_open() - open the files of an image
 * @dir:	directory of the image; NULL = none, nothing is opened
 * @shim:	viv-vmm-shim.so
 * @out:	FLOOR_IMAGE_INIT; its descriptors are the caller's, also after a failure
 *
 * Return: 0; -errno with op->err set.
 */
must_check int floor_image_open(const char *dir, const char *shim, struct vmm_restore *out,
				struct op *op);

/** floor_image_close() - close them; idempotent */
void floor_image_close(struct vmm_restore *restore);
