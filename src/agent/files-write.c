/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/files-write.h"

#include "agent/dirs.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MODE = 0644 };

static int open_checked(const char *path, struct stat *st, struct files_error *e)
{
	auto_close int fd = -1;

	if (stat(path, st) == 0 && files_check_regular(st->st_mode, path, e) < 0)
		return -EPROTO;
	fd = open(path, O_WRONLY | O_CREAT | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, FILE_MODE);
	if (fd < 0 || fstat(fd, st) < 0)
		return files_error_errno(e, errno, "open", path);
	if (files_check_regular(st->st_mode, path, e) < 0)
		return -EPROTO;
	return take_fd(&fd);
}

/* Not if it is so already: files of the kernel refuse it. */
static int set_owner(int fd, const struct stat *st, const struct user *owner)
{
	if (st->st_uid == owner->uid && st->st_gid == owner->gid)
		return 0;
	return fchown(fd, owner->uid, owner->gid) < 0 ? -errno : 0;
}

int files_writer_open(struct files_writer *w, const char *path, const struct user *owner,
		      const struct metadata_items *metadata, struct files_error *e)
{
	int r = dirs_make_parent(path, owner);
	auto_close int fd = -1;
	struct stat st;

	if (r < 0)
		return files_error_errno(e, -r, "make the directory of", path);
	fd = open_checked(path, &st, e);
	if (fd < 0)
		return fd;
	r = set_owner(fd, &st, owner);
	if (r < 0)
		return files_error_errno(e, -r, "set the owner of", path);
	if (metadata_store(fd, path, metadata, e) < 0)
		return -EPROTO;
	/* An empty one would tell who watches of a write that is none. */
	if (st.st_size > 0 && ftruncate(fd, 0) < 0)
		return files_error_errno(e, errno, "truncate", path);
	w->fd = take_fd(&fd);
	str_copy(w->path, sizeof(w->path), path);
	return 0;
}

int files_writer_add(struct files_writer *w, const char *p, size_t n, struct files_error *e)
{
	int r = fd_write_all(w->fd, p, n);

	return r < 0 ? files_error_errno(e, -r, "write", w->path) : 0;
}

int files_writer_close(struct files_writer *w, struct files_error *e)
{
	int fd = take_fd(&w->fd);

	/* Some file systems find out only now that there is no room. */
	return close(fd) < 0 ? files_error_errno(e, errno, "close", w->path) : 0;
}

void files_writer_done(struct files_writer *w)
{
	fd_close(&w->fd);
}
