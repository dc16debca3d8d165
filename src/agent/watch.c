/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. inotify watches single directories; a recursive watch has one for each, by
 * number (wd), with its path relative to the root. Numbers only grow, so that the array stays
 * sorted by them.
 *
 * A directory that appears is watched first and then read: what was made in it before the watch is
 * found by reading, what is made after it gives events, and what was made between the two comes
 * twice. So the names that were found are remembered ("seen") until the queue is empty, and the
 * first event that makes such a name is dropped. The queue is in order: behind its present end no
 * event can be about a file that was read before.
 *
 * A directory that is moved loses its watches with all below it, since their paths are wrong, and
 * gets new ones where it appears again. Events that are still queued for the old ones are about a
 * time when the new place was not read yet: they are dropped with the unknown number.
 *
 * The root is known by its path alone: a descriptor of it would keep the kernel from telling that
 * it was removed. A watch whose root was moved or removed has come to its end, and says so.
 */
#include "agent/watch.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	DIRS_MAX = 65536,
	READ_BYTES = 8192,
	READS_MAX = 8, /* by one call */
	DIR_MASK = IN_CREATE | IN_MODIFY | IN_ATTRIB | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO |
		   IN_ONLYDIR | IN_DONT_FOLLOW | IN_EXCL_UNLINK,
	ROOT_MASK = DIR_MASK | IN_DELETE_SELF | IN_MOVE_SELF,
};

struct watched {
	int wd;
	char *path; /* relative to the root, "" = the root */
};

struct seen {
	int wd;
	char *name;
};

VEC_DEFINE(watched_dirs, struct watched)
VEC_DEFINE(seen_names, struct seen)
VEC_DEFINE(dir_paths, char *)

struct watch {
	int fd;     /* inotify */
	char *root; /* without links */
	bool recursive;
	struct watched_dirs dirs; /* sorted by wd */
	struct seen_names seen;
	watch_fn fn; /* NULL while the watch is being made: what is there is no news */
	void *arg;
	struct connect_error *error;
};

static int by_wd(const void *a, const void *b)
{
	const struct watched *x = a;
	const struct watched *y = b;

	return (x->wd > y->wd) - (x->wd < y->wd);
}

static struct watched *find_dir(const struct watch *w, int wd)
{
	const struct watched key = { .wd = wd };

	if (w->dirs.n == 0)
		return NULL;
	return bsearch(&key, w->dirs.at, w->dirs.n, sizeof(key), by_wd);
}

static void drop_dir(struct watch *w, struct watched *dir)
{
	size_t behind = (size_t)(w->dirs.at + w->dirs.n - (dir + 1));

	free(dir->path);
	memmove(dir, dir + 1, behind * sizeof(*dir));
	w->dirs.n--;
}

/* A path below a directory; either may be "". Return: false when it is longer than paths can be. */
static bool join(char out[PATH_MAX], const char *dir, const char *name)
{
	bool slash = dir[0] != '\0' && name[0] != '\0' && !str_ends(dir, "/");

	return str_fit(out, PATH_MAX, "%s%s%s", dir, slash ? "/" : "", name) == 0;
}

static int tell(struct watch *w, enum watch_event event, const char *name)
{
	return w->fn != NULL ? w->fn(event, name, w->arg) : 0;
}

static int limit_reached(struct watch *w, const char *limit)
{
	return connect_error_set(w->error, CONNECT_RESOURCE_EXHAUSTED,
				 "too much to watch: the limit %s is reached", limit);
}

/* Forgets a directory that is somewhere else now, with all below it. */
static void drop_tree(struct watch *w, const char *top)
{
	size_t n = strlen(top);

	for (size_t i = w->dirs.n; i-- > 0;) {
		struct watched *dir = &w->dirs.at[i];

		if (strncmp(dir->path, top, n) != 0 ||
		    (dir->path[n] != '\0' && dir->path[n] != '/'))
			continue;
		ignore_err(inotify_rm_watch(w->fd, dir->wd)); /* gone by itself: all the same */
		drop_dir(w, dir);
	}
}

/* Return: the number; 0 the directory is gone, or no path reaches it; -EEXIST; -EPROTO. */
static int add_watch(struct watch *w, const char *path, uint32_t flags)
{
	bool is_root = path[0] == '\0';
	char at[PATH_MAX];
	int wd;

	if (!join(at, w->root, path))
		return 0;
	wd = inotify_add_watch(w->fd, at, (is_root ? ROOT_MASK : DIR_MASK) | flags);
	if (wd >= 0)
		return wd;
	if (errno == EEXIST)
		return -EEXIST;
	if (errno == ENOSPC)
		return limit_reached(w, "fs.inotify.max_user_watches");
	if (!is_root && (errno == ENOENT || errno == ENOTDIR || errno == EACCES))
		return 0;
	return connect_error_set(w->error, CONNECT_INTERNAL, "watch '%.300s': %s", at,
				 strerror(errno));
}

static bool is_known(const struct watch *w, const char *path)
{
	vec_foreach (dir, &w->dirs)
		if (streq(dir->path, path))
			return true;
	return false;
}

/* A directory has a watch already: if it has it under another path, it was moved, and is found here
 * before that event was read. Return: as add_watch(). */
static int add_again(struct watch *w, const char *path)
{
	auto_free char *before = NULL;
	const struct watched *dir;
	int wd;

	if (is_known(w, path))
		return 0;
	wd = add_watch(w, path, 0);
	dir = find_dir(w, wd);
	if (dir == NULL)
		return wd; /* it is new by now, or gone */
	if (dir->path[0] == '\0')
		return 0; /* the root, mounted within itself */
	before = str_dup(dir->path);
	drop_tree(w, before);
	return add_watch(w, path, IN_MASK_CREATE);
}

/*
 * Watches a directory. Never again one that is watched: for an instant the kernel would have no
 * mask for it, and lose what happens then.
 * Return: 1, with *@out_wd, it is new; 0 it is known or gone; -EPROTO.
 */
static int add_dir(struct watch *w, const char *path, int *out_wd)
{
	int wd = add_watch(w, path, IN_MASK_CREATE);

	if (wd == -EEXIST)
		wd = add_again(w, path);
	if (wd <= 0)
		return wd == -EEXIST ? 0 : wd;
	if (w->dirs.n >= DIRS_MAX)
		return limit_reached(w, "of 65536 directories in one watch");
	watched_dirs_push(&w->dirs, (struct watched){ wd, str_dup(path) });
	*out_wd = wd;
	return 1;
}

/* Tells of a file that was found by reading. */
static int tell_found(struct watch *w, int wd, const char *name, const char *path,
		      const struct stat *st)
{
	int r = tell(w, WATCH_CREATE, path);

	if (r == 0 && S_ISREG(st->st_mode) && st->st_size > 0)
		r = tell(w, WATCH_WRITE, path);
	seen_names_push(&w->seen, (struct seen){ wd, str_dup(name) });
	return r;
}

/* Reads a directory that is watched from now on; those in it are added to @todo. */
static int read_dir(struct watch *w, int wd, const char *dir_path, struct dir_paths *todo)
{
	auto_dir *dir = NULL;
	const struct dirent *entry;
	char path[PATH_MAX];
	struct stat st;
	int r = 0;

	/* One that cannot be read has nothing to tell of; most often it is gone again. */
	if (!join(path, w->root, dir_path) || dir_open_at(AT_FDCWD, path, O_NOFOLLOW, &dir) < 0)
		return 0;
	while (r == 0 && dir_next(dir, &entry) > 0) {
		if (!join(path, dir_path, entry->d_name) ||
		    fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (w->fn != NULL)
			r = tell_found(w, wd, entry->d_name, path, &st);
		if (S_ISDIR(st.st_mode))
			dir_paths_push(todo, str_dup(path));
	}
	return r;
}

/* Watches a directory and, as wanted, all below it. A list instead of recursion, as depth is the
 * guest's choice. */
static int add_tree(struct watch *w, const char *top)
{
	struct dir_paths todo = { 0 };
	int r = 0;
	int wd = -1;

	dir_paths_push(&todo, str_dup(top));
	while (r >= 0 && todo.n > 0) {
		auto_free char *path = todo.at[--todo.n];

		r = add_dir(w, path, &wd);
		if (r > 0 && w->recursive)
			r = read_dir(w, wd, path, &todo);
	}
	vec_foreach (path, &todo)
		free(*path);
	dir_paths_done(&todo);
	return r < 0 ? r : 0;
}

/* Whether a name was found by reading; it is not from then on. */
static bool take_seen(struct watch *w, int wd, const char *name)
{
	vec_foreach (seen, &w->seen) {
		if (seen->wd != wd || !streq(seen->name, name))
			continue;
		free(seen->name);
		*seen = w->seen.at[--w->seen.n];
		return true;
	}
	return false;
}

static void forget_seen(struct watch *w)
{
	vec_foreach (seen, &w->seen)
		free(seen->name);
	seen_names_done(&w->seen);
}

static const struct {
	uint32_t mask;
	enum watch_event event;
} meanings[] = {
	{ IN_CREATE | IN_MOVED_TO, WATCH_CREATE },
	{ IN_MODIFY, WATCH_WRITE },
	{ IN_DELETE | IN_DELETE_SELF, WATCH_REMOVE },
	{ IN_MOVED_FROM | IN_MOVE_SELF, WATCH_RENAME },
	{ IN_ATTRIB, WATCH_CHMOD },
};

/* An event with a name in a watched directory. */
static int handle_named(struct watch *w, const struct inotify_event *ev, const char *path)
{
	const uint32_t appears = IN_CREATE | IN_MOVED_TO;
	const uint32_t vanishes = IN_DELETE | IN_MOVED_FROM;
	bool is_dir = w->recursive && (ev->mask & IN_ISDIR);
	bool seen = (ev->mask & (appears | vanishes)) && take_seen(w, ev->wd, ev->name);
	int r = 0;

	if (seen && (ev->mask & appears))
		return 0; /* told already, and watched if it is a directory */
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(meanings); i++)
		if (ev->mask & meanings[i].mask)
			r = tell(w, meanings[i].event, path);
	if (is_dir && (ev->mask & IN_MOVED_FROM))
		drop_tree(w, path);
	if (r == 0 && is_dir && (ev->mask & appears))
		r = add_tree(w, path);
	return r;
}

/* An event of a watched directory itself. Those below the root have it told by their parent. */
static int handle_self(struct watch *w, const struct inotify_event *ev, struct watched *dir)
{
	const uint32_t end = IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED;
	int r = 0;

	if (dir->path[0] != '\0') {
		if (ev->mask & IN_IGNORED)
			drop_dir(w, dir);
		return 0;
	}
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(meanings); i++)
		if (ev->mask & meanings[i].mask)
			r = tell(w, meanings[i].event, ".");
	if (r == 0 && (ev->mask & end))
		r = connect_error_set(w->error, CONNECT_NOT_FOUND,
				      "the watched directory '%.400s' was moved or removed",
				      w->root);
	return r;
}

static int handle(struct watch *w, const struct inotify_event *ev)
{
	struct watched *dir = find_dir(w, ev->wd);
	char path[PATH_MAX];

	if (ev->mask & IN_Q_OVERFLOW)
		return connect_error_set(w->error, CONNECT_DATA_LOSS,
					 "more changes at once than could be kept "
					 "(fs.inotify.max_queued_events): some were lost");
	if (dir == NULL)
		return 0;
	if (ev->len == 0)
		return handle_self(w, ev, dir);
	return join(path, dir->path, ev->name) ? handle_named(w, ev, path) : 0;
}

/* Handles what one read gave. */
static int handle_all(struct watch *w, const char *p, size_t n)
{
	int r = 0;

	while (r == 0 && n > 0) {
		const struct inotify_event *ev = (const void *)p;
		size_t used = sizeof(*ev) + ev->len;

		r = handle(w, ev);
		p += used;
		n -= used;
	}
	return r;
}

int watch_read(struct watch *w, watch_fn fn, void *arg, struct connect_error *e)
{
	char bytes[READ_BYTES] __attribute__((aligned(__alignof__(struct inotify_event))));
	ssize_t n = 1;
	int r = 0;

	w->fn = fn;
	w->arg = arg;
	w->error = e;
	for (int i = 0; r == 0 && n > 0 && i < READS_MAX; i++) {
		n = read(w->fd, bytes, sizeof(bytes));
		if (n > 0)
			r = handle_all(w, bytes, (size_t)n);
	}
	if (n < 0 && errno == EAGAIN)
		forget_seen(w);
	else if (n < 0 && errno != EINTR)
		r = connect_error_set(e, CONNECT_INTERNAL, "read changes: %s", strerror(errno));
	return r;
}

static int open_root(struct watch *w, const char *path)
{
	struct stat st;

	w->root = realpath(path, NULL);
	if (w->root == NULL || stat(w->root, &st) < 0)
		return connect_error_set(w->error,
					 errno == ENOENT || errno == ENOTDIR ? CONNECT_NOT_FOUND
									     : CONNECT_INTERNAL,
					 "watch '%.400s': %s", path, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return connect_error_set(w->error, CONNECT_INVALID_ARGUMENT,
					 "path '%.400s' is not a directory", path);
	w->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (w->fd < 0 && errno == EMFILE)
		return limit_reached(w, "fs.inotify.max_user_instances");
	if (w->fd < 0)
		return connect_error_set(w->error, CONNECT_INTERNAL, "watch '%.400s': %s", path,
					 strerror(errno));
	return 0;
}

int watch_open(const char *path, bool recursive, struct watch **out, struct connect_error *e)
{
	struct watch *w = xcalloc(1, sizeof(*w));
	int r;

	w->fd = -1;
	w->recursive = recursive;
	w->error = e;
	r = open_root(w, path);
	if (r == 0)
		r = add_tree(w, "");
	if (r < 0) {
		watch_free(w);
		return r;
	}
	*out = w;
	return 0;
}

int watch_fd(const struct watch *w)
{
	return w->fd;
}

void watch_free(struct watch *w)
{
	if (w == NULL)
		return;
	vec_foreach (dir, &w->dirs)
		free(dir->path);
	watched_dirs_done(&w->dirs);
	forget_seen(w);
	fd_close(&w->fd);
	free(w->root);
	free(w);
}
