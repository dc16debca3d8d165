/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of unpacking share: paths below the destination, and the file under way. */
#pragma once

#include "base/tar.h"
#include "os/unpack-parts.h"

#include <sys/types.h>

/* Whose things become. */
struct unpack_owner {
	bool set;
	uid_t uid;
	gid_t gid;
};

/* Where an entry is: a name in an open directory. */
struct unpack_place {
	int dir_fd; /* owned; -1 */
	char *name; /* owned; "" = the destination itself */
};

void unpack_place_done(struct unpack_place *p);

/**
 * unpack_find() - open the directory that a clean path is in, making what is missing of it
 * @owner:	of what is made
 * @out:	unpack_place_done() frees it
 *
 * Return: 0; -errno with @e set (a symbolic link on the way: ELOOP).
 */
must_check int unpack_find(int top_fd, const char *path, const struct unpack_owner *owner,
			   struct unpack_place *out, struct err *e);

/** unpack_open_dir() - open a directory below another, by no link. Return: fd; -errno */
must_check int unpack_open_dir(int top_fd, const char *path, bool readable);

/**
 * unpack_file_close() - set length, owner, mode and time, and close
 * @mode:	permission bits
 *
 * Return: 0; -errno.
 */
must_check int unpack_file_close(struct unpack_file *f, const struct tar_entry *entry,
				 const struct unpack_owner *owner, mode_t mode);
