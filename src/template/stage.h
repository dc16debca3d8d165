/* SPDX-License-Identifier: Apache-2.0 */
/* Temporary names, below which kernels and templates are made. */
#pragma once

#include "base/macros.h"

/* What names of temporary files begin with (stage_begin()): in kernels/, in a kernel's directory,
 * and, behind ".<template>", in templates/. */
#define KERNEL_STAGE           ".build-"
#define KERNEL_INITRAMFS_STAGE ".initramfs-"
#define TEMPLATE_STAGE         ".build-"

/* A file or directory being made under a temporary name; its lock tells the living from the dead.
 */
struct stage {
	int dirfd;      /* directory that holds it; borrowed */
	int fd;         /* holds the lock; owned; -1 = none */
	char name[128]; /* "" = none */
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
