/* SPDX-License-Identifier: Apache-2.0 */
/* What the files behind kernel.h share. */
#pragma once

#include "template/kernel.h"

#define KERNEL_INITRAMFS_PREFIX "initramfs-"

enum { KERNEL_INITRAMFS_SIZE = 64 };

/** kernel_initramfs_name() - the name of the images with an agent. Return: 0; -errno with @e set */
must_check int kernel_initramfs_name(const char *agent_path, char out[KERNEL_INITRAMFS_SIZE],
				     struct err *e);
