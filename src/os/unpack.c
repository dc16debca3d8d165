/* SPDX-License-Identifier: Apache-2.0 */
#include "os/unpack.h"

#include "base/fd.h"
#include "base/str.h"
#include "base/vec.h"
#include "os/unpack-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODE_PLAIN = 0777, MODE_KEPT = 07777 };

/* A new directory that gets its mode, owner and time later. */
struct pending_dir {
	char *path;
	struct tar_entry entry; /* its strings are not valid any more */
};
VEC_DEFINE(pending_dirs, struct pending_dir)

struct unpack {
	struct unpack_spec spec; /* strings owned */
	struct tar_reader *reader;
	int top_fd;   /* -1 = the first entry has not come yet */
	char *root;   /* the first part of all paths, of one file or tree; NULL = any */
	char *target; /* what stands for it below top_fd, "" = that itself */
	bool is_file; /* the one is a file */
	uint64_t entries;
	struct unpack_file file;
	char *path; /* of the entry under way, below top_fd */
	struct pending_dirs dirs;
};

struct unpack *unpack_new(const struct unpack_spec *spec)
{
	struct unpack *u = xcalloc(1, sizeof(*u));

	u->spec = *spec;
	u->spec.dest = str_dup(spec->dest);
	u->spec.name = spec->name != NULL ? str_dup(spec->name) : NULL;
	u->reader = tar_reader_new();
	u->top_fd = -1;
	u->file.fd = -1;
	return u;
}

void unpack_free(struct unpack *u)
{
	if (u == NULL)
		return;
	tar_reader_free(u->reader);
	fd_close(&u->top_fd);
	fd_close(&u->file.fd);
	vec_foreach (dir, &u->dirs)
		free(dir->path);
	pending_dirs_done(&u->dirs);
	free((char *)(uintptr_t)u->spec.dest);
	free((char *)(uintptr_t)u->spec.name);
	free(u->root);
	free(u->target);
	free(u->path);
	free(u);
}

static struct unpack_owner owner_of(const struct unpack *u, const struct tar_entry *entry)
{
	if (u->spec.keep_owner)
		return (struct unpack_owner){ true, (uid_t)entry->uid, (gid_t)entry->gid };
	return (struct unpack_owner){ u->spec.set_owner, u->spec.uid, u->spec.gid };
}

static mode_t mode_of(const struct unpack *u, const struct tar_entry *entry)
{
	return entry->mode & (u->spec.keep_owner ? MODE_KEPT : MODE_PLAIN);
}

static int open_top(struct unpack *u, const char *path, struct err *e)
{
	u->top_fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	return u->top_fd < 0 ? err_errno(e, errno, "open directory %s", path) : 0;
}

/* The destination is, or becomes, an entry of the directory that it is in. */
static int aim_at_entry(struct unpack *u, const char *path, struct err *e)
{
	auto_free char *parent = str_dup(path);
	size_t n = strlen(parent);
	char *slash;

	while (n > 1 && parent[n - 1] == '/')
		parent[--n] = '\0';
	slash = strrchr(parent, '/');
	u->target = str_dup(slash != NULL ? slash + 1 : parent);
	if (streq(u->target, "..") || streq(u->target, ".") || u->target[0] == '\0')
		return err_set(e, ERR_INVALID, "%s is no name for a new file", u->spec.dest);
	if (slash == NULL)
		return open_top(u, ".", e);
	slash[slash == parent] = '\0';
	return open_top(u, parent, e);
}

static int aim_at_file(struct unpack *u, struct err *e)
{
	auto_free char *real = NULL;

	if (!u->is_file)
		return err_set(e, ERR_INVALID, "%s is a file: a directory cannot be copied over it",
			       u->spec.dest);
	if (u->spec.must_be_dir)
		return err_set(e, ERR_INVALID, "%s is no directory", u->spec.dest);
	real = realpath(u->spec.dest, NULL);
	return real == NULL ? err_errno(e, errno, "look at %s", u->spec.dest)
			    : aim_at_entry(u, real, e);
}

/* Where the one file or tree goes: docker's rules, which are cp's but that parents must exist. */
static int aim(struct unpack *u, struct err *e)
{
	struct stat st;

	if (stat(u->spec.dest, &st) == 0 && S_ISDIR(st.st_mode)) {
		u->target = str_dup(u->spec.name);
		if (u->is_file && u->target[0] == '\0')
			return err_set(e, ERR_INVALID, "what is copied is no directory");
		return open_top(u, u->spec.dest, e);
	}
	if (access(u->spec.dest, F_OK) == 0)
		return aim_at_file(u, e);
	if (errno != ENOENT)
		return err_errno(e, errno, "look at %s", u->spec.dest);
	if (u->is_file && u->spec.must_be_dir)
		return err_set(e, ERR_INVALID, "directory %s does not exist", u->spec.dest);
	return aim_at_entry(u, u->spec.dest, e);
}

static int begin(struct unpack *u, const struct tar_entry *entry, const char *path, struct err *e)
{
	if (u->spec.name == NULL)
		return open_top(u, u->spec.dest, e);
	u->is_file = entry->type != TAR_DIR;
	u->root = str_dup(path);
	u->root[strcspn(u->root, "/")] = '\0';
	return aim(u, e);
}

/* A clean path of the stream as one below top_fd. */
static int place_path(const struct unpack *u, const char *clean, char **out, struct err *e)
{
	size_t n = u->root != NULL ? strlen(u->root) : 0;
	bool below = clean[n] == '/';

	if (u->root == NULL) {
		*out = str_dup(clean);
		return 0;
	}
	if (strncmp(clean, u->root, n) != 0 || (!below && clean[n] != '\0') ||
	    (below && u->is_file))
		return err_set(e, ERR_INVALID, "the tar stream has %.200s, which is not in %.200s",
			       clean, u->root);
	*out = str_printf("%s%s%s", u->target, below && u->target[0] != '\0' ? "/" : "",
			  clean + n + below);
	return 0;
}

/* Takes away what is in the way of an entry that is no directory. */
static int clear_place(const struct unpack_place *p, const char *path, struct err *e)
{
	if (unlinkat(p->dir_fd, p->name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno == EISDIR)
		return err_set(e, ERR_INVALID, "%s is a directory: no file can be copied over it",
			       path);
	return err_errno(e, errno, "replace %s", path);
}

static int make_file(struct unpack *u, const struct unpack_place *p, struct err *e)
{
	int r = clear_place(p, u->path, e);

	if (r < 0)
		return r;
	u->file.at_bytes = 0;
	u->file.fd = openat(p->dir_fd, p->name,
			    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return u->file.fd < 0 ? err_errno(e, errno, "make %s", u->path) : 0;
}

static int make_symlink(struct unpack *u, const struct unpack_place *p,
			const struct tar_entry *entry, struct err *e)
{
	struct unpack_owner owner = owner_of(u, entry);
	struct timespec times[2];
	int r = clear_place(p, u->path, e);

	if (r < 0)
		return r;
	unpack_times(entry, times);
	if (symlinkat(entry->link, p->dir_fd, p->name) < 0)
		return err_errno(e, errno, "make link %s", u->path);
	if (owner.set &&
	    fchownat(p->dir_fd, p->name, owner.uid, owner.gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, errno, "set the owner of link %s", u->path);
	if (utimensat(p->dir_fd, p->name, times, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(e, errno, "set the time of link %s", u->path);
	return 0;
}

/* To an entry that came before, or was there: below the destination in any case. */
static int make_hardlink(struct unpack *u, const struct unpack_place *p,
			 const struct tar_entry *entry, struct err *e)
{
	cleanup(unpack_place_done) struct unpack_place to = { .dir_fd = -1 };
	struct unpack_owner owner = owner_of(u, entry);
	auto_free char *clean = NULL;
	auto_free char *path = NULL;
	int r = unpack_path(entry->link, &clean, e);

	if (r == 0)
		r = place_path(u, clean, &path, e);
	if (r == 0)
		r = unpack_find(u->top_fd, path, &owner, &to, e);
	if (r == 0 && streq(path, u->path))
		return 0;
	if (r == 0)
		r = clear_place(p, u->path, e);
	if (r < 0)
		return r;
	if (linkat(to.dir_fd, to.name, p->dir_fd, p->name, 0) < 0)
		return err_errno(e, errno, "link %s to %s", u->path, path);
	return 0;
}

/* A directory that is there stays as it is. */
static int make_dir(struct unpack *u, const struct unpack_place *p, const struct tar_entry *entry,
		    struct err *e)
{
	struct stat st;

	if (fstatat(p->dir_fd, p->name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		if (S_ISDIR(st.st_mode))
			return 0;
		if (unlinkat(p->dir_fd, p->name, 0) < 0)
			return err_errno(e, errno, "replace %s", u->path);
	}
	if (mkdirat(p->dir_fd, p->name, 0700) < 0)
		return err_errno(e, errno, "make directory %s", u->path);
	pending_dirs_push(&u->dirs, (struct pending_dir){ str_dup(u->path), *entry });
	return 0;
}

static int settle_dir(struct unpack *u, const struct pending_dir *dir, struct err *e)
{
	struct unpack_owner owner = owner_of(u, &dir->entry);
	auto_close int fd = unpack_open_dir(u->top_fd, dir->path, true);
	struct timespec times[2];

	if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP)
		return 0; /* somebody replaced it: it is none of ours any more */
	unpack_times(&dir->entry, times);
	if (fd < 0)
		return err_errno(e, -fd, "open directory %s", dir->path);
	if ((owner.set && fchown(fd, owner.uid, owner.gid) < 0) ||
	    fchmod(fd, mode_of(u, &dir->entry)) < 0 || futimens(fd, times) < 0)
		return err_errno(e, errno, "set owner, mode and time of directory %s", dir->path);
	return 0;
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && path[n] == '/';
}

/* Finishes the directories that @path is not in; NULL = all. */
static int settle_dirs(struct unpack *u, const char *path, struct err *e)
{
	while (u->dirs.n > 0) {
		struct pending_dir *dir = &u->dirs.at[u->dirs.n - 1];
		int r;

		if (path != NULL && is_below(path, dir->path))
			return 0;
		r = settle_dir(u, dir, e);
		free(dir->path);
		u->dirs.n--;
		if (r < 0)
			return r;
	}
	return 0;
}

static int make_entry(struct unpack *u, const struct unpack_place *p, const struct tar_entry *entry,
		      struct err *e)
{
	switch (entry->type) {
	case TAR_FILE:
		return make_file(u, p, e);
	case TAR_DIR:
		return make_dir(u, p, entry, e);
	case TAR_SYMLINK:
		return make_symlink(u, p, entry, e);
	case TAR_HARDLINK:
		return make_hardlink(u, p, entry, e);
	case TAR_CHARDEV:
	case TAR_BLOCKDEV:
	case TAR_FIFO:
		break;
	}
	if (u->spec.on_skip != NULL)
		u->spec.on_skip(u->path, u->spec.arg);
	return 0;
}

static int begin_entry(struct unpack *u, struct err *e)
{
	const struct tar_entry *entry = tar_reader_entry(u->reader);
	cleanup(unpack_place_done) struct unpack_place place = { .dir_fd = -1 };
	struct unpack_owner owner = owner_of(u, entry);
	auto_free char *clean = NULL;
	int r = unpack_path(entry->path, &clean, e);

	free(take_ptr(&u->path));
	if (r == 0 && u->top_fd < 0)
		r = begin(u, entry, clean, e);
	if (r == 0)
		r = place_path(u, clean, &u->path, e);
	if (r == 0)
		r = settle_dirs(u, u->path, e);
	if (r != 0)
		return r;
	u->entries++;
	if (u->path[0] == '\0')
		return entry->type == TAR_DIR
			       ? 0
			       : err_set(e, ERR_INVALID, "the tar stream has a file without name");
	r = unpack_find(u->top_fd, u->path, &owner, &place, e);
	return r < 0 ? r : make_entry(u, &place, entry, e);
}

static int end_entry(struct unpack *u, struct err *e)
{
	const struct tar_entry *entry = tar_reader_entry(u->reader);
	struct unpack_owner owner = owner_of(u, entry);
	int r;

	if (u->file.fd < 0)
		return 0;
	r = unpack_file_close(&u->file, entry, &owner, mode_of(u, entry));
	return r < 0 ? err_errno(e, -r, "finish %s", u->path) : 0;
}

int unpack_feed(struct unpack *u, const char *p, size_t n, struct err *e)
{
	const char *data = NULL;
	size_t len = 0;
	int event;

	while ((event = tar_next(u->reader, &p, &n, &data, &len, e)) > TAR_MORE) {
		int r = 0;

		if (event == TAR_ENTRY)
			r = begin_entry(u, e);
		else if (event == TAR_DONE)
			r = end_entry(u, e);
		else if (u->file.fd >= 0)
			r = unpack_file_write(&u->file, data, len);
		if (r < 0)
			return err_errno(e, -r, "write %s", u->path != NULL ? u->path : "");
	}
	return event;
}

int unpack_finish(struct unpack *u, struct err *e)
{
	if (!tar_reader_is_complete(u->reader) || u->file.fd >= 0)
		return err_set(e, ERR_INVALID, "the tar stream ends too early");
	if (u->entries == 0 && u->spec.name != NULL)
		return err_set(e, ERR_INVALID, "the tar stream is empty");
	return settle_dirs(u, NULL, e);
}

uint64_t unpack_entries(const struct unpack *u)
{
	return u->entries;
}
