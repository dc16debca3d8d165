/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changes in a directory or a tree, by inotify. Blocking but for the waiting, which is the
 * caller's: watch_fd() is readable when there is something to read.
 */
#pragma once

#include "agent/envelope.h"

enum watch_event {
	WATCH_CREATE, /* made, or moved to here */
	WATCH_WRITE,
	WATCH_REMOVE,
	WATCH_RENAME, /* moved from here */
	WATCH_CHMOD,  /* mode, owner, times or metadata changed */
	WATCH_EVENT_N
};

/* @name: relative to the watched directory; "." is that itself. Return: 0; -EPROTO: read no more.
 */
typedef int (*watch_fn)(enum watch_event event, const char *name, void *arg);

struct watch;

/**
 * watch_open() - begin to watch: what happens after this is seen
 * @path:	a directory, which may be reached by links; those in it are not followed
 * @recursive:	the directories below, too, also those made later
 *
 * Return: 0, watch_free() frees it; -EPROTO with @e set.
 */
must_check int watch_open(const char *path, bool recursive, struct watch **out,
			  struct connect_error *e);

/** watch_fd() - what to wait for; borrowed */
int watch_fd(const struct watch *w);

/**
 * watch_read() - tell what happened, as far as it is known without waiting
 * @fn:		called for each change, in order
 *
 * A call reads a bounded part; the descriptor stays readable when there is more. Return: 0; -EPROTO
 * with @e set, when changes were lost, the directory is gone (after telling that, as "."), or a
 * limit is reached: the watch is of no use any more.
 */
must_check int watch_read(struct watch *w, watch_fn fn, void *arg, struct connect_error *e);

/** watch_free() - end; NULL is allowed */
void watch_free(struct watch *w);
