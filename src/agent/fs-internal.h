/* SPDX-License-Identifier: Apache-2.0 */
/* What the parts of the filesystem service share. */
#pragma once

#include "agent/connect.h"
#include "agent/job.h"
#include "agent/user.h"

#include <limits.h>

enum {
	FS_REPLY_MAX = 16 << 20, /* bytes of a listing */
	FS_ENTRIES_MAX = 100000,
};

/* A unary call whose work is done on the pool. */
struct fs_op {
	struct job job;
	struct connect_call *call;    /* NULL = gone */
	int (*run)(struct fs_op *op); /* 0 with the reply, or -EPROTO with the error */
	struct user user;
	char path[PATH_MAX];
	char destination[PATH_MAX]; /* of a move */
	uint64_t depth;             /* of a listing */
	struct buf reply;           /* JSON */
	struct connect_error error;
};

/** fs_error() - set the error that a system call gave. @what: what was attempted. Return: -EPROTO
 */
int fs_error(struct connect_error *e, int code, const char *what, const char *path);

/** fs_list() - the work of ListDir. Return: 0; -EPROTO with the error set */
must_check int fs_list(struct fs_op *op);

/** fs_watch_dir() - WatchDir */
void fs_watch_dir(struct agent *a, struct connect_call *c, const json_t *request);

/** fs_create_watcher() - CreateWatcher */
void fs_create_watcher(struct agent *a, struct connect_call *c, const json_t *request);

/** fs_get_watcher_events() - GetWatcherEvents */
void fs_get_watcher_events(struct agent *a, struct connect_call *c, const json_t *request);

/** fs_remove_watcher() - RemoveWatcher */
void fs_remove_watcher(struct agent *a, struct connect_call *c, const json_t *request);

/** fs_json_append() - add a value to JSON text and drop the reference to it. Return: 0; -EMSGSIZE;
 * -ENOMEM */
must_check int fs_json_append(struct buf *out, json_t *value);
