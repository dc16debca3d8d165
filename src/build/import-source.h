/* SPDX-License-Identifier: Apache-2.0 */
/* An image that lies in a directory: which files it has, and what is said of them. */
#pragma once

#include "build/oci.h"

struct import_source {
	int dir_fd; /* owned; -1 */
	struct oci_manifest manifest;
	struct oci_config config; /* has as many diff_ids as there are layers */
};

#define IMPORT_SOURCE_INIT                                                                         \
	{                                                                                          \
		.dir_fd = -1                                                                       \
	}

/** import_source_done() - close and free; idempotent */
void import_source_done(struct import_source *s);

/** import_source_is_image() - whether a directory is an OCI layout or what `docker save` packs, and
 * not a root file system */
bool import_source_is_image(int dir_fd);

/**
 * import_source_read() - find the image and read its configuration
 * @s:		its dir_fd is set
 *
 * Nothing outside of the directory is read, wherever links of it lead. Sizes and digests of what is
 * read are checked. Return: 0; -errno with @e set.
 */
must_check int import_source_read(struct import_source *s, struct err *e);

/** import_source_open() - open a layer, whose size is checked, its digest not. Return: fd; -errno
 * with @e set */
must_check int import_source_open(const struct import_source *s, const struct oci_part *part,
				  struct err *e);
