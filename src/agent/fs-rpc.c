/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/fs.h"

#include "agent/agent.h"
#include "agent/caller.h"
#include "agent/dirs.h"
#include "agent/entry.h"
#include "agent/field.h"
#include "agent/fs-internal.h"
#include "base/file.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

static enum connect_code code_of(int code)
{
	switch (code) {
	case ENOENT:
	case ENOTDIR:
		return CONNECT_NOT_FOUND;
	case EEXIST:
	case ENOTEMPTY:
		return CONNECT_ALREADY_EXISTS;
	case EACCES:
	case EPERM:
	case EROFS:
		return CONNECT_PERMISSION_DENIED;
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return CONNECT_RESOURCE_EXHAUSTED;
	case EINVAL:
	case EISDIR:
	case ENAMETOOLONG:
		return CONNECT_INVALID_ARGUMENT;
	case ELOOP:
	case EBUSY:
	case EXDEV:
	case ETXTBSY:
		return CONNECT_FAILED_PRECONDITION;
	default:
		return CONNECT_INTERNAL;
	}
}

int fs_error(struct connect_error *e, int code, const char *what, const char *path)
{
	if (code == ENOENT)
		return connect_error_set(e, CONNECT_NOT_FOUND, "path '%.400s' does not exist",
					 path);
	return connect_error_set(e, code_of(code), "%s '%.400s': %s", what, path, strerror(code));
}

static int append_text(const char *text, size_t n, void *out)
{
	return buf_append(out, text, n) < 0 ? -1 : 0;
}

int fs_json_append(struct buf *out, json_t *value)
{
	int r = value != NULL ? json_dump_callback(value, append_text, out,
						   JSON_COMPACT | JSON_ENCODE_ANY)
			      : -1;

	json_decref(value);
	if (r == 0)
		return 0;
	return value == NULL ? -ENOMEM : -EMSGSIZE;
}

static int reply_entry(struct fs_op *op, const char *path)
{
	auto_owners owners = { 0 };
	json_t *entry = NULL;
	int r = entry_json(path, &owners, &entry);

	if (r < 0)
		return fs_error(&op->error, -r, "stat", path);
	if (fs_json_append(&op->reply, json_pack("{s:o}", "entry", entry)) < 0)
		return connect_error_set(&op->error, CONNECT_RESOURCE_EXHAUSTED, "out of memory");
	return 0;
}

static int run_stat(struct fs_op *op)
{
	return reply_entry(op, op->path);
}

static int run_make_dir(struct fs_op *op)
{
	struct stat st;
	int r;

	if (stat(op->path, &st) == 0)
		return connect_error_set(&op->error,
					 S_ISDIR(st.st_mode) ? CONNECT_ALREADY_EXISTS
							     : CONNECT_INVALID_ARGUMENT,
					 "path '%.400s' exists already%s", op->path,
					 S_ISDIR(st.st_mode) ? "" : " and is not a directory");
	r = dirs_make(op->path, &op->user);
	if (r == -ENOTDIR)
		return connect_error_set(&op->error, CONNECT_INVALID_ARGUMENT,
					 "a part of path '%.400s' is not a directory", op->path);
	if (r < 0)
		return fs_error(&op->error, -r, "make directory", op->path);
	return reply_entry(op, op->path);
}

static int run_move(struct fs_op *op)
{
	struct stat st;
	int r;

	if (lstat(op->path, &st) < 0)
		return fs_error(&op->error, errno, "move", op->path);
	r = dirs_make_parent(op->destination, &op->user);
	if (r < 0)
		return fs_error(&op->error, -r, "make the directory of", op->destination);
	if (rename(op->path, op->destination) == 0)
		return reply_entry(op, op->destination);
	if (errno == EXDEV)
		return connect_error_set(&op->error, CONNECT_FAILED_PRECONDITION,
					 "'%.200s' and '%.200s' are on different file systems",
					 op->path, op->destination);
	return fs_error(&op->error, errno, "move to", op->destination);
}

static int run_remove(struct fs_op *op)
{
	int r;

	if (streq(op->path, "/"))
		return connect_error_set(&op->error, CONNECT_INVALID_ARGUMENT,
					 "the root directory cannot be removed");
	r = file_remove_tree_at(AT_FDCWD, op->path);
	if (r == -ELOOP)
		return connect_error_set(&op->error, CONNECT_FAILED_PRECONDITION,
					 "'%.400s' is nested too deep: remove what is left from "
					 "within",
					 op->path);
	/* Below what is no directory there is nothing either. */
	if (r < 0 && r != -ENOTDIR)
		return fs_error(&op->error, -r, "remove", op->path);
	return buf_puts(&op->reply, "{}");
}

static void op_free(struct fs_op *op)
{
	user_done(&op->user);
	buf_done(&op->reply);
	free(op);
}

static void op_run(struct job *job)
{
	struct fs_op *op = container_of(job, struct fs_op, job);

	ignore_err(op->run(op)); /* the error is looked at when the job is done */
}

static void op_done(struct job *job)
{
	struct fs_op *op = container_of(job, struct fs_op, job);
	struct connect_call *c = take_ptr(&op->call);

	if (c != NULL && op->error.code != CONNECT_OK)
		connect_fail(c, &op->error);
	else if (c != NULL)
		connect_reply_text(c, buf_str(&op->reply), op->reply.len);
	op_free(op);
}

static void on_gone(void *arg)
{
	struct fs_op *op = arg;

	op->call = NULL;
}

static const struct connect_events events = { .on_gone = on_gone };

/* Reads the path in a field, which must be there. */
static int read_path(struct agent *a, const json_t *request, const char *name,
		     const struct user *user, char out[PATH_MAX], struct connect_error *e)
{
	const char *path = NULL;

	if (field_string(request, name, &path, e) < 0)
		return -EPROTO;
	return caller_path(a, user, path != NULL ? path : "", out, e);
}

static int read_op(struct agent *a, const json_t *request, struct fs_op *op)
{
	bool move = op->run == run_move;

	if (caller_of_call(a, op->call, &op->user, &op->error) < 0 ||
	    read_path(a, request, move ? "source" : "path", &op->user, op->path, &op->error) < 0)
		return -EPROTO;
	if (field_u64(request, "depth", UINT32_MAX, &op->depth, &op->error) < 0)
		return -EPROTO;
	return move ? read_path(a, request, "destination", &op->user, op->destination, &op->error)
		    : 0;
}

static void start(struct agent *a, struct connect_call *c, const json_t *request,
		  int (*run)(struct fs_op *op))
{
	struct fs_op *op = xcalloc(1, sizeof(*op));

	op->call = c;
	op->run = run;
	buf_init(&op->reply, FS_REPLY_MAX);
	if (read_op(a, request, op) < 0) {
		connect_fail(c, &op->error);
		op_free(op);
		return;
	}
	connect_bind(c, &events, op);
	job_start(&a->loop, &op->job, op_run, op_done);
}

static void rpc_stat(struct agent *a, struct connect_call *c, const json_t *request)
{
	start(a, c, request, run_stat);
}

static void rpc_make_dir(struct agent *a, struct connect_call *c, const json_t *request)
{
	start(a, c, request, run_make_dir);
}

static void rpc_move(struct agent *a, struct connect_call *c, const json_t *request)
{
	start(a, c, request, run_move);
}

static void rpc_list_dir(struct agent *a, struct connect_call *c, const json_t *request)
{
	start(a, c, request, fs_list);
}

static void rpc_remove(struct agent *a, struct connect_call *c, const json_t *request)
{
	start(a, c, request, run_remove);
}

static const struct connect_method methods[] = {
	{ "Stat", rpc_stat },
	{ "MakeDir", rpc_make_dir },
	{ "Move", rpc_move },
	{ "ListDir", rpc_list_dir },
	{ "Remove", rpc_remove },
	{ "WatchDir", fs_watch_dir, .stream = true, .keepalive = "{\"keepalive\":{}}" },
	{ "CreateWatcher", fs_create_watcher },
	{ "GetWatcherEvents", fs_get_watcher_events },
	{ "RemoveWatcher", fs_remove_watcher },
};

void fs_serve(struct http_exchange *x, const struct route_params *params, void *arg)
{
	connect_serve(arg, x, methods, ARRAY_SIZE(methods), params->at[0]);
}
