/* SPDX-License-Identifier: Apache-2.0 */
/* What the files behind kernel.h share. */
#pragma once

#include "template/kernel.h"

#define KERNEL_INITRAMFS_PREFIX "initramfs-"
