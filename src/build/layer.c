/* SPDX-License-Identifier: Apache-2.0 */
#include "build/layer.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "base/tar.h"
#include "base/vec.h"
#include "build/layer-made.h"
#include "build/layer-path.h"
#include "os/unpack-parts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char whiteout[] = ".wh.";
static const char opaque[] = ".wh..wh..opq";
static const char reserved[] = ".wh..wh."; /* aufs' own */

/* A directory gets its time when nothing more comes into it. */
struct dir_time {
	char *path;
	struct timespec times[2];
};
VEC_DEFINE(dir_times, struct dir_time)

/* Where an entry is: a name in an open directory. */
struct place {
	int dir_fd; /* owned; -1 */
	ino_t dir;
	const char *name; /* borrowed from the path; "" = the root itself */
};

struct layer {
	struct layer_spec spec;
	struct tar_reader *reader;
	struct layer_made made;
	struct dir_times dirs;
	char *path;         /* of the entry under way; owned */
	struct place place; /* of that */
	struct unpack_file file;
};

static void place_done(struct place *p)
{
	fd_close(&p->dir_fd);
}

struct layer *layer_new(const struct layer_spec *spec)
{
	struct layer *l = xcalloc(1, sizeof(*l));

	l->spec = *spec;
	l->reader = tar_reader_new();
	l->place.dir_fd = -1;
	l->file.fd = -1;
	return l;
}

void layer_free(struct layer *l)
{
	if (l == NULL)
		return;
	tar_reader_free(l->reader);
	layer_made_done(&l->made);
	vec_foreach (dir, &l->dirs)
		free(dir->path);
	dir_times_done(&l->dirs);
	free(l->path);
	place_done(&l->place);
	fd_close(&l->file.fd);
	free(l);
}

static int note_made(ino_t dir, const char *name, void *arg)
{
	struct layer *l = arg;

	return l->spec.whiteouts ? layer_made_add(&l->made, dir, name) : 0;
}

/* Opens the directory that a clean path is in. */
static int find_place(struct layer *l, const char *path, bool make, struct place *out,
		      struct err *e)
{
	const char *slash = strrchr(path, '/');
	auto_free char *parent = str_printf("%.*s", slash != NULL ? (int)(slash - path) : 0, path);
	auto_close int fd = make ? layer_make_dirs(l->spec.root_fd, parent, note_made, l)
				 : layer_open_dir(l->spec.root_fd, parent, O_PATH);
	ino_t dir = 0;
	int r = fd < 0 ? fd : layer_inode(fd, &dir);

	if (r < 0)
		return err_errno(e, -r, "open the directory of %.200s", path);
	*out = (struct place){ take_fd(&fd), dir, slash != NULL ? slash + 1 : path };
	return 0;
}

static int hide(struct layer *l, int dir_fd, ino_t dir, const char *name);

/* Takes away what lower layers have in a directory. As deep as paths are long, and no deeper than
 * descriptors last. */
static int hide_contents(struct layer *l, int parent_fd,
			 const char *name) // NOLINT(misc-no-recursion)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	ino_t dir = 0;
	int r = dir_open_at(parent_fd, name, O_NOFOLLOW, &d);

	if (r == -ENOTDIR || r == -ELOOP)
		return 0;
	if (r == 0)
		r = layer_inode(dirfd(d), &dir);
	while (r >= 0 && (r = dir_next(d, &entry)) > 0)
		r = hide(l, dirfd(d), dir, entry->d_name);
	return r;
}

/* What this layer made stays, but for what is of lower ones in it. */
static int hide(struct layer *l, int dir_fd, ino_t dir,
		const char *name) // NOLINT(misc-no-recursion)
{
	if (layer_made_has(&l->made, dir, name))
		return hide_contents(l, dir_fd, name);
	return file_remove_tree_at(dir_fd, name);
}

/* Return: 1 it was a whiteout; 0 it is none; -errno with @e set. */
static int take_whiteout(struct layer *l, struct err *e)
{
	const struct place *p = &l->place;
	const char *hidden = p->name + strlen(whiteout);
	int r;

	if (!l->spec.whiteouts || !str_starts(p->name, whiteout))
		return 0;
	if (streq(p->name, opaque))
		r = hide_contents(l, p->dir_fd, ".");
	else if (str_starts(p->name, reserved))
		r = 0;
	else if (hidden[0] == '\0' || streq(hidden, ".") || streq(hidden, ".."))
		return err_set(e, ERR_INVALID, "the layer hides what has no name: %.200s", l->path);
	else
		r = hide(l, p->dir_fd, p->dir, hidden);
	return r < 0 ? err_errno(e, -r, "hide what lower layers have at %.200s", l->path) : 1;
}

/* Takes away what is in the way of an entry; a directory may stay for another. Return: 1 one stays;
 * 0; -errno. */
static int clear_place(const struct place *p, bool for_dir)
{
	struct stat st;

	if (fstatat(p->dir_fd, p->name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(st.st_mode) && for_dir)
		return 1;
	return file_remove_tree_at(p->dir_fd, p->name);
}

static int set_xattr(struct layer *l, const char *path, const struct tar_xattr *xattr)
{
	if (lsetxattr(path, xattr->name, xattr->value, xattr->n, 0) == 0)
		return 0;
	if (errno != EOPNOTSUPP && errno != EPERM)
		return -errno;
	l->spec.account->xattrs_left_out++;
	return 0;
}

/* Owner, mode and attributes, in the order in which none takes away another; then, but for a
 * directory, the time. */
static int set_attributes(struct layer *l, const struct tar_entry *entry)
{
	const char *name = l->place.name[0] != '\0' ? l->place.name : ".";
	auto_free char *path = str_printf("/proc/self/fd/%d/%s", l->place.dir_fd, name);
	struct timespec times[2];
	int r = 0;

	if (fchownat(l->place.dir_fd, name, (uid_t)entry->uid, (gid_t)entry->gid,
		     AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	if (entry->type != TAR_SYMLINK && fchmodat(l->place.dir_fd, name, entry->mode, 0) < 0)
		return -errno;
	for (size_t i = 0; r == 0 && i < entry->n_xattrs; i++)
		r = set_xattr(l, path, &entry->xattrs[i]);
	unpack_times(entry, times);
	if (r < 0 || entry->type == TAR_DIR)
		return r;
	return utimensat(l->place.dir_fd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

static int make_dir(struct layer *l, const struct tar_entry *entry)
{
	struct dir_time dir = { .path = NULL };
	int r = l->place.name[0] != '\0' ? clear_place(&l->place, true) : 1;

	if (r < 0)
		return r;
	if (r == 0 && mkdirat(l->place.dir_fd, l->place.name, 0700) < 0)
		return -errno;
	unpack_times(entry, dir.times);
	dir.path = str_dup(l->path);
	dir_times_push(&l->dirs, dir); /* bounded by entries_left */
	return set_attributes(l, entry);
}

static int make_file(struct layer *l)
{
	l->file.at_bytes = 0;
	l->file.fd = openat(l->place.dir_fd, l->place.name,
			    O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	return l->file.fd < 0 ? -errno : 0;
}

/* Without the right to make devices (in a container, say) the image does without them. */
static int make_node(struct layer *l, const struct tar_entry *entry)
{
	mode_t type = entry->type == TAR_FIFO      ? S_IFIFO
		      : entry->type == TAR_CHARDEV ? S_IFCHR
						   : S_IFBLK;

	if (mknodat(l->place.dir_fd, l->place.name, type | 0600,
		    makedev(entry->dev_major, entry->dev_minor)) == 0)
		return set_attributes(l, entry);
	if (errno != EPERM)
		return -errno;
	l->spec.account->devices_left_out++;
	return 0;
}

/* To what came before, in this layer or a lower one. */
static int make_hardlink(struct layer *l, const struct tar_entry *entry, struct err *e)
{
	cleanup(place_done) struct place to = { .dir_fd = -1 };
	auto_free char *path = NULL;
	int r = unpack_path(entry->link + strspn(entry->link, "/"), &path, e);

	if (r == 0)
		r = find_place(l, path, false, &to, e);
	if (r < 0)
		return r;
	if (to.dir == l->place.dir && streq(to.name, l->place.name))
		return 0;
	r = clear_place(&l->place, false);
	if (r == 0 && linkat(to.dir_fd, to.name, l->place.dir_fd, l->place.name, 0) < 0)
		r = -errno;
	return r < 0 ? err_errno(e, -r, "link %.160s to %.160s", l->path, path) : 0;
}

static int make_entry(struct layer *l, const struct tar_entry *entry)
{
	int r = entry->type == TAR_DIR ? 0 : clear_place(&l->place, false);

	if (r < 0)
		return r;
	switch (entry->type) {
	case TAR_FILE:
		return make_file(l);
	case TAR_DIR:
		return make_dir(l, entry);
	case TAR_SYMLINK:
		if (symlinkat(entry->link, l->place.dir_fd, l->place.name) < 0)
			return -errno;
		return set_attributes(l, entry);
	case TAR_CHARDEV:
	case TAR_BLOCKDEV:
	case TAR_FIFO:
		return make_node(l, entry);
	case TAR_HARDLINK:
		break;
	}
	return 0;
}

static int charge(uint64_t *left, uint64_t n, const char *what, struct err *e)
{
	if (n > *left)
		return err_set(e, ERR_EXHAUSTED,
			       "unpacked, the image has more %s than there may be", what);
	*left -= n;
	return 0;
}

/* Sets the path and the place of an entry. */
static int aim(struct layer *l, const struct tar_entry *entry, struct err *e)
{
	struct place place;
	int r;

	place_done(&l->place);
	free(take_ptr(&l->path));
	r = charge(&l->spec.account->entries_left, 1, "files", e);
	if (r == 0)
		r = unpack_path(entry->path + strspn(entry->path, "/"), &l->path, e);
	if (r == 0)
		r = find_place(l, l->path, true, &place, e);
	if (r != 0)
		return r;
	l->place = place;
	if (place.name[0] == '\0' && entry->type != TAR_DIR)
		return err_set(e, ERR_INVALID, "the tar stream has a file without name");
	return 0;
}

static int begin_entry(struct layer *l, struct err *e)
{
	const struct tar_entry *entry = tar_reader_entry(l->reader);
	int r = aim(l, entry, e);

	if (r == 0)
		r = charge(&l->spec.account->bytes_left, entry->size_bytes, "bytes", e);
	if (r == 0)
		r = take_whiteout(l, e);
	if (r != 0)
		return MIN(r, 0);
	if (entry->type == TAR_HARDLINK) {
		r = make_hardlink(l, entry, e);
	} else {
		r = make_entry(l, entry);
		if (r < 0)
			r = err_errno(e, -r, "make %.200s", l->path);
	}
	return r < 0 ? r : note_made(l->place.dir, l->place.name, l);
}

static int end_entry(struct layer *l, struct err *e)
{
	auto_close int fd = take_fd(&l->file.fd);
	int r;

	if (fd < 0)
		return 0;
	if (ftruncate(fd, (off_t)l->file.at_bytes) < 0)
		return err_errno(e, errno, "write %.200s", l->path);
	r = set_attributes(l, tar_reader_entry(l->reader));
	return r < 0 ? err_errno(e, -r, "set the attributes of %.200s", l->path) : 0;
}

int layer_feed(struct layer *l, const char *p, size_t n, struct err *e)
{
	const char *data = NULL;
	size_t len = 0;
	int event;

	while ((event = tar_next(l->reader, &p, &n, &data, &len, e)) > TAR_MORE) {
		int r = 0;

		if (event == TAR_ENTRY)
			r = begin_entry(l, e);
		else if (event == TAR_DONE)
			r = end_entry(l, e);
		else if (l->file.fd >= 0)
			r = unpack_file_write(&l->file, data, len);
		if (r < 0) /* what set no error wrote */
			return err_errno(e, -r, "write %.200s", l->path != NULL ? l->path : "");
	}
	return event;
}

int layer_finish(struct layer *l, struct err *e)
{
	if (!tar_reader_is_complete(l->reader) || l->file.fd >= 0)
		return err_set(e, ERR_INVALID, "the tar stream ends too early");
	while (l->dirs.n > 0) {
		struct dir_time *dir = &l->dirs.at[--l->dirs.n];
		auto_free char *path = take_ptr(&dir->path);
		auto_close int fd = layer_open_dir(l->spec.root_fd, path, O_PATH | O_NOFOLLOW);

		if (fd < 0) /* a later entry took its place */
			continue;
		if (utimensat(fd, "", dir->times, AT_EMPTY_PATH) < 0)
			return err_errno(e, errno, "set the time of %.200s", path);
	}
	return 0;
}
