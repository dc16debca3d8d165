/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ListDir. A directory is read whole, sorted by bytes and closed before its entries are written, so
 * that depth costs no descriptors; entries go straight into the reply as text. Links are not
 * followed, but for the path that was asked for. What vanishes meanwhile is left out.
 */
#include "agent/entry.h"
#include "agent/fs-internal.h"
#include "base/dir.h"
#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

VEC_DEFINE(names, char *)

struct listing {
	struct fs_op *op;
	struct owners owners;
	size_t n_entries; /* found so far, written or not */
	char path[PATH_MAX];
};

static void names_free(struct names *names)
{
	vec_foreach (name, names)
		free(*name);
	names_done(names);
}

#define auto_names cleanup(names_free) struct names

static int by_bytes(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int too_large(struct listing *l)
{
	return connect_error_set(&l->op->error, CONNECT_RESOURCE_EXHAUSTED,
				 "listing '%.300s' has more than %d entries or %d MiB: list less "
				 "deep, or a part of it",
				 l->op->path, FS_ENTRIES_MAX, FS_REPLY_MAX >> 20);
}

/* Return: 0, sorted, none if the directory is gone; -EPROTO with the error set. */
static int read_names(struct listing *l, struct names *names)
{
	auto_dir *dir = NULL;
	const struct dirent *entry;
	int r = dir_open_at(AT_FDCWD, l->path, 0, &dir);

	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	while (r >= 0 && (r = dir_next(dir, &entry)) > 0) {
		if (++l->n_entries > FS_ENTRIES_MAX)
			return too_large(l);
		names_push(names, str_dup(entry->d_name));
	}
	if (r < 0)
		return fs_error(&l->op->error, -r, "read directory", l->path);
	if (names->n > 0)
		qsort(names->at, names->n, sizeof(*names->at), by_bytes);
	return 0;
}

/* Writes the entry of the path. Return: 0; -ENOENT it is gone; -EPROTO with the error set. */
static int write_entry(struct listing *l)
{
	struct buf *reply = &l->op->reply;
	json_t *entry = NULL;
	int r = entry_json(l->path, &l->owners, &entry);

	if (r == -ENOENT || r == -ENOTDIR)
		return -ENOENT;
	if (r < 0)
		return fs_error(&l->op->error, -r, "stat", l->path);
	if (reply->data[reply->off + reply->len - 1] == '}' && buf_puts(reply, ",") < 0) {
		json_decref(entry);
		return too_large(l);
	}
	return fs_json_append(reply, entry) < 0 ? too_large(l) : 0;
}

static bool is_dir(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int list(struct listing *l, uint64_t depth)
{
	auto_names names = { 0 };
	size_t len = strlen(l->path);
	int r = read_names(l, &names);

	vec_foreach (name, &names) {
		if (r < 0)
			return r;
		/* Longer than any path can be: it is not reached by its path either. */
		if (str_fit(l->path + len, sizeof(l->path) - len, "%s%s",
			    l->path[len - 1] == '/' ? "" : "/", *name) == 0) {
			r = write_entry(l);
			if (r == 0 && depth > 1 && is_dir(l->path))
				r = list(l, depth - 1);
			if (r == -ENOENT)
				r = 0;
		}
		l->path[len] = '\0';
	}
	return r;
}

static int check_dir(struct fs_op *op)
{
	struct stat st;

	if (stat(op->path, &st) < 0)
		return fs_error(&op->error, errno, "list", op->path);
	if (!S_ISDIR(st.st_mode))
		return connect_error_set(&op->error, CONNECT_INVALID_ARGUMENT,
					 "path '%.400s' is not a directory", op->path);
	return 0;
}

int fs_list(struct fs_op *op)
{
	struct listing *l;
	int r = check_dir(op);

	if (r < 0)
		return r;
	l = xcalloc(1, sizeof(*l));
	l->op = op;
	str_copy(l->path, sizeof(l->path), op->path);
	r = buf_puts(&op->reply, "{\"entries\":[");
	if (r == 0)
		r = list(l, op->depth != 0 ? op->depth : 1);
	if (r == 0 && buf_puts(&op->reply, "]}") < 0)
		r = too_large(l);
	owners_done(&l->owners);
	free(l);
	return r;
}
