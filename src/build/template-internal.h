/* SPDX-License-Identifier: Apache-2.0 */
/* What the files behind template_build_base() share: base.c, apt.c, rootfs.c, image.c. */
#pragma once

#include "build/build.h"

#include <limits.h>

/* The steps of a build, as progress counts them. */
enum build_step {
	BUILD_LISTS = 1,
	BUILD_DOWNLOAD,
	BUILD_UNPACK,
	BUILD_ESSENTIAL,
	BUILD_PACKAGES,
	BUILD_CLEAN,
	BUILD_IMAGE,
	BUILD_HASH,
	BUILD_STEP_N = BUILD_HASH,
};

/** build_tell() - tell that a step begins; @progress may be NULL */
void build_tell(const struct progress *progress, enum build_step at, const char *what);

/** build_detail() - tell a line of detail; @progress may be NULL */
void build_detail(const struct progress *progress, const char *text);

enum { APT_LINES_MAX = 24 };

/* How the host's apt reaches Debian. */
struct apt_setup {
	char *lines[APT_LINES_MAX]; /* "deb URI bookworm main"; owned */
	size_t n_lines;             /* 0 = the host has no sources of Debian 12 */
	char *options; /* lines for apt.conf: proxies and the like; owned; NULL = none */
};

/**
 * apt_setup_read() - ask the host's apt for its sources of Debian 12 and its ways to fetch
 * @sources:	whether the sources are wanted, or the ways alone
 * @out:	to be freed with apt_setup_done() after success
 *
 * A host whose apt cannot tell has none: that is no error.
 * Return: 0; -errno with op->err set (cancelled).
 */
must_check int apt_setup_read(bool sources, struct apt_setup *out, struct op *op);

/** apt_setup_done() - free what it owns; idempotent */
void apt_setup_done(struct apt_setup *apt);

struct rootfs_spec {
	const char *dir;    /* of the build, where temporary files may lie */
	const char *root;   /* the new root's directory, not there yet */
	const char *mirror; /* NULL = as the host is set up */
};

/** rootfs_make() - Debian 12 with the packages of the base template and its user.
 * Return: 0; -errno with op->err set */
must_check int rootfs_make(const struct rootfs_spec *spec, const struct progress *progress,
			   struct op *op);

/**
 * image_make() - an ext4 image with the contents of a directory
 * @path:	new file; sparse
 * @free_mib:	room left beyond the contents
 *
 * Return: 0; -errno with op->err set.
 */
must_check int image_make(const char *root, const char *path, uint64_t free_mib, struct op *op);

/**
 * image_seal() - make an image read-only and durable
 * @out_bytes:	its size
 * @out_sha256:	its digest, hex
 *
 * Return: 0; -errno with op->err set.
 */
must_check int image_seal(const char *path, uint64_t *out_bytes, char out_sha256[65],
			  struct op *op);
