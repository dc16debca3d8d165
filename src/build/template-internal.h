/* SPDX-License-Identifier: Apache-2.0 */
/* What makes templates: build.c and image.c any; base.c, apt.c, rootfs.c Debian; import.c others */
#pragma once

#include "build/build.h"

#include <limits.h>

/* The steps of the base template, as progress counts them. */
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

/** build_tell() - tell that step @at of @of begins; @progress may be NULL */
void build_tell(const struct progress *progress, unsigned at, unsigned of, const char *what);

/** build_detail() - tell a line of detail; @progress may be NULL */
void build_detail(const struct progress *progress, const char *text);

/* Where and how a root is made. All is borrowed. */
struct root_job {
	const char *dir;  /* of the build, for temporary files */
	const char *root; /* the new root's directory, not there yet */
	const struct progress *progress;
	void *arg; /* the recipe's */
};

/* How one kind of template is made. Strings are borrowed. */
struct recipe {
	const char *state_dir;
	const char *name;
	uint64_t free_mib;    /* room left in the image beyond its contents */
	uint64_t space_bytes; /* what has to be free at the least */
	unsigned steps;       /* of its progress; the last two are the image's */
	bool shared;          /* who had to wait for another build takes what that one made */

	/* Makes the root's tree; sets @t's user and workdir, and *@out_image, which
	 * template_write_manifest() gets, if there is one. Return: 0; -errno with op->err set. */
	int (*make_root)(const struct root_job *job, struct template *t, json_t **out_image,
			 struct op *op);
	void *arg;
};

/**
 * template_build() - make a template by a recipe
 *
 * Nothing is left behind by a failure or a kill but a temporary directory that the next build
 * removes. Thread: worker or main. Return: 0; -errno with op->err set.
 */
must_check int template_build(const struct recipe *recipe, const struct progress *progress,
			      struct op *op);

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
