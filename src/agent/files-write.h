/* SPDX-License-Identifier: Apache-2.0 */
/* Writing a file for a client; blocking. */
#pragma once

#include "agent/metadata.h"
#include "agent/user.h"

#include <limits.h>

/* A file that is being written. */
struct files_writer {
	int fd; /* -1 = none */
	char path[PATH_MAX];
};

#define FILES_WRITER_INIT                                                                          \
	{                                                                                          \
		.fd = -1                                                                           \
	}

/**
 * files_writer_open() - begin a file, which is new or becomes empty
 * @w:		has none open
 * @path:	absolute; parents are made, links followed
 * @owner:	whose it becomes
 * @metadata:	becomes all the metadata of the file
 *
 * A file that is there stays the same inode and keeps its mode. Return: 0; -EPROTO with @e set.
 */
must_check int files_writer_open(struct files_writer *w, const char *path, const struct user *owner,
				 const struct metadata_items *metadata, struct files_error *e);

/** files_writer_add() - append bytes. Return: 0; -EPROTO with @e set */
must_check int files_writer_add(struct files_writer *w, const char *p, size_t n,
				struct files_error *e);

/** files_writer_close() - end the file. Return: 0; -EPROTO with @e set */
must_check int files_writer_close(struct files_writer *w, struct files_error *e);

/** files_writer_done() - close what was not ended; idempotent */
void files_writer_done(struct files_writer *w);
