/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of the QEMU driver only. */
#pragma once

#include "vmm/vmm-driver.h"

/* The numbers of the descriptors that QEMU is given; its disks follow one another from the last. */
enum {
	QEMU_FD_QMP = 10,
	QEMU_FD_CONSOLE,
	QEMU_FD_KERNEL,
	QEMU_FD_INITRD,
	QEMU_FD_TAP,
	QEMU_FD_DISK,
	QEMU_DISKS_MAX = 64,
};

struct qemu_args;

/**
 * qemu_args_new() - the command line for a VM
 * @binary:	path of QEMU
 *
 * Return: the arguments; qemu_args_free() frees them.
 */
struct qemu_args *qemu_args_new(const char *binary, const struct vmm_spec *spec);

/** qemu_args_argv() - the arguments, ended by NULL; borrowed */
const char *const *qemu_args_argv(const struct qemu_args *args);

/** qemu_args_free() - free a command line; NULL is allowed */
void qemu_args_free(struct qemu_args *args);
