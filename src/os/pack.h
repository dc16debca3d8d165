/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A file or a tree as a tar stream, made while it is read: memory is bounded by the depth, whatever
 * the sizes. Files and directories are opened without following links that change meanwhile.
 * Blocking; any thread, one at a time.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

struct pack;

struct pack_spec {
	const char *name; /* of the first entry; copied; what is below it is NAME/… */
	bool follow_root; /* a symbolic link: what it leads to, instead of the link */
	bool follow_all;  /* of those below, too */
	void (*on_skip)(const char *name, void *arg); /* a socket was left out; NULL = never mind */
	void *arg;
};

/**
 * pack_open() - begin
 * @out:	pack_free() ends it
 *
 * Return: 0; -ENOENT and other -errno with @e set.
 */
must_check int pack_open(const char *path, const struct pack_spec *spec, struct pack **out,
			 struct err *e);

/** pack_read() - the next bytes of the stream, at most @n. Return: how many; 0 it is complete;
 * -errno with @e set */
must_check ssize_t pack_read(struct pack *p, char *out, size_t n, struct err *e);

/** pack_free() - close and free; NULL is allowed */
void pack_free(struct pack *p);
