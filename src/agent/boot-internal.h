/* SPDX-License-Identifier: Apache-2.0 */
/* The phases of boot.h. */
#pragma once

#include "agent/boot.h"

/** boot_modules() - load the modules in /modules/order of the initramfs. Return: 0; -errno, @e set
 */
must_check int boot_modules(struct err *e);

/**
 * boot_disk() - mount the root disk on /newroot, with its file system as large as the device
 * @device:	"/dev/vda"; waited for
 */
must_check int boot_disk(const char *device, struct err *e);

/**
 * boot_disk_grow() - grow the root file system of a guest that runs to a disk that became larger
 * @bytes:	what the disk has, or will have in a moment; waited for
 *
 * Return: 0; -errno.
 */
must_check int boot_disk_grow(uint64_t bytes);

/**
 * boot_switch_root() - make /newroot the root, with the mounts of the initramfs moved into it and
 * the initramfs' files removed
 */
must_check int boot_switch_root(struct err *e);

/** boot_net() - lo up; eth0 with its address, route and neighbour. @with_eth: false = lo only */
must_check int boot_net(bool with_eth, struct err *e);
