/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest kernels: <state>/kernels/<version>/ holds `vmlinux` (uncompressed, PVH), the few `modules/`
 * that a guest needs in the order in which they load (`modules/order`), and initramfs images named
 * by the agent they carry. Several versions lie side by side; nothing is installed on the host.
 */
#pragma once

#include "base/op.h"

enum { KERNEL_VERSION_SIZE = 64, KERNEL_INITRAMFS_SIZE = 64 };

struct kernel {
	char version[KERNEL_VERSION_SIZE]; /* "6.1.0-56-cloud-amd64" */
	char vmlinux[512];                 /* absolute path */
};

/** kernel_version_valid() - whether a text that apt or a directory gave can be a kernel's name */
bool kernel_version_valid(const char *version);

/**
 * kernel_find() - choose a kernel
 * @version:	the recorded one, or NULL / "" for the newest by version order
 * @out:	filled on success
 *
 * Return: 0; 1 @version is gone and @out is the newest instead (warn); -ENOENT with @e set when
 * there is none at all (how to get one).
 */
must_check int kernel_find(const char *state_dir, const char *version, struct kernel *out,
			   struct err *e);

/**
 * kernel_initramfs() - the initramfs with an agent for a kernel; made when it is not there yet
 * @agent_path:	the static viv-agent
 * @out_path:	array of @size bytes
 *
 * Several threads and processes may call it at once (temporary name, rename).
 * Return: 0; -errno with op->err set.
 */
must_check int kernel_initramfs(const char *state_dir, const struct kernel *kernel,
				const char *agent_path, char *out_path, size_t size, struct op *op);

/** kernel_initramfs_name() - the name of the initramfs images with an agent, by its digest. Return:
 * 0; -errno with @e set */
must_check int kernel_initramfs_name(const char *agent_path, char out[KERNEL_INITRAMFS_SIZE],
				     struct err *e);
