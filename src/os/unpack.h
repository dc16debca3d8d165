/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tar stream as files. Whoever made the stream is not trusted: nothing is ever made, changed or
 * deleted outside of the destination, whatever the names say, and whatever symbolic links the
 * stream or others put there meanwhile. Blocking; any thread, one at a time.
 *
 * Theory of operation. The destination is opened once; each entry is reached from it by
 * openat2(RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS), so that no link is ever followed below it. What
 * is in the way is unlinked and made anew, never written through, but for directories, which stay
 * as they are. A new directory gets its mode and time when nothing more comes into it. Runs of
 * zeros become holes.
 */
#pragma once

#include "base/err.h"

#include <sys/types.h>

struct unpack;

struct unpack_spec {
	const char *dest; /* absolute, or below the working directory; named by the user: its links
			   * are followed */
	const char *name; /* the stream is one file or tree: what it is called in a directory @dest,
			   * "" = its contents go right into that; NULL = a stream of any entries,
			   * by their own names, into the directory @dest */
	bool must_be_dir; /* @dest was said to be one */
	bool keep_owner;  /* owners as the stream has them, and set-user-id bits */
	bool set_owner;   /* else: @uid and @gid, instead of the caller's own */
	uid_t uid;
	gid_t gid;
	void (*on_skip)(const char *path,
			void *arg); /* a device or pipe was left out; may be NULL */
	void *arg;
};

/** unpack_new() - begin; unpack_free() ends it. @spec's strings are copied */
struct unpack *unpack_new(const struct unpack_spec *spec);

/** unpack_feed() - the next bytes of the stream. Return: 0; -errno with @e set: ERR_INVALID the
 * stream or the destination is no good (the message names the path) */
must_check int unpack_feed(struct unpack *u, const char *p, size_t n, struct err *e);

/** unpack_finish() - the stream is over. Return: 0; -errno with @e set: it was cut, or was empty */
must_check int unpack_finish(struct unpack *u, struct err *e);

/** unpack_entries() - how many entries were made */
uint64_t unpack_entries(const struct unpack *u);

/** unpack_free() - close and free; what was made stays; NULL is allowed */
void unpack_free(struct unpack *u);
