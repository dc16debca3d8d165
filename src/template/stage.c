/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * What takes long to make is made under a temporary name and renamed when it is complete. The maker
 * holds a lock (flock) on it; the kernel drops the lock with the process, so a temporary name
 * without a lock is a dead maker's, and whoever begins next removes it.
 *
 * Between making and locking there is an instant in which a sweeper may take a new name for a dead
 * one. The maker sees that afterwards, by the sweeper's lock or by a link count of 0, and begins
 * anew.
 */
#include "template/stage.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/id.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RANDOM_CHARS = 12, TRIES_MAX = 100 };

static void sweep_one(int dirfd, const char *name)
{
	auto_close int fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return;
	/* Left-overs cost space only; what cannot be removed now is tried again next time. */
	ignore_err(file_remove_tree_at(dirfd, name));
}

static int sweep(int dirfd, const char *prefix)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	int r = dir_open_at(dirfd, ".", 0, &d);

	while (r >= 0 && (r = dir_next(d, &entry)) > 0)
		if (str_starts(entry->d_name, prefix))
			sweep_one(dirfd, entry->d_name);
	return r;
}

/* Return: 1 it is ours; 0 a sweeper was faster; -errno. */
static int make(int dirfd, const char *name, bool directory, int *out_fd)
{
	auto_close int fd = -1;
	struct stat st;

	if (directory && mkdirat(dirfd, name, 0700) < 0)
		return errno == EEXIST ? 0 : -errno;
	fd = openat(dirfd, name,
		    directory ? O_RDONLY | O_DIRECTORY | O_CLOEXEC
			      : O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
		    0600);
	if (fd < 0)
		return errno == ENOENT || errno == EEXIST ? 0 : -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) < 0)
		return errno == EWOULDBLOCK ? 0 : -errno;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (st.st_nlink == 0)
		return 0;
	*out_fd = take_fd(&fd);
	return 1;
}

int stage_begin(int dirfd, const char *prefix, bool directory, struct stage *out)
{
	int r = sweep(dirfd, prefix);

	for (unsigned i = 0; r == 0 && i < TRIES_MAX; i++) {
		char random[RANDOM_CHARS + 1];

		random_hex(random, RANDOM_CHARS);
		r = str_fit(out->name, sizeof(out->name), "%s%s", prefix, random);
		if (r == 0)
			r = make(dirfd, out->name, directory, &out->fd);
		if (r > 0) {
			out->dirfd = dirfd;
			return 0;
		}
	}
	out->name[0] = '\0';
	return r < 0 ? r : -EBUSY;
}

int stage_commit(struct stage *s, const char *name)
{
	if (fsync(s->fd) < 0 || renameat(s->dirfd, s->name, s->dirfd, name) < 0)
		return -errno;
	s->name[0] = '\0';
	return file_sync_dir(s->dirfd);
}

void stage_done(struct stage *s)
{
	if (s->name[0] != '\0') {
		/* The next maker's sweep removes what is left. */
		ignore_err(file_remove_tree_at(s->dirfd, s->name));
		s->name[0] = '\0';
	}
	fd_close(&s->fd);
}
