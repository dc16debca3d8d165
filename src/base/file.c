/* SPDX-License-Identifier: Apache-2.0 */
#include "base/file.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_CHUNK_BYTES = 8192, TREE_DEPTH_MAX = 64 };

int file_read_at(int dirfd, const char *path, struct buf *out)
{
	auto_close int fd = openat(dirfd, path, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (fd < 0)
		return -errno;
	for (;;) {
		char chunk[READ_CHUNK_BYTES];
		ssize_t n = fd_read_full(fd, chunk, sizeof(chunk));
		int r;

		if (n <= 0)
			return (int)n;
		r = buf_append(out, chunk, (size_t)n);
		if (r < 0)
			return r;
	}
}

int file_sync_dir(int dirfd)
{
	auto_close int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

static int sync_parent(int dirfd, const char *path)
{
	char copy[PATH_MAX];
	auto_close int fd = -1;

	str_copy(copy, sizeof(copy), path);
	fd = openat(dirfd, dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	return fsync(fd) < 0 ? -errno : 0;
}

struct content {
	const void *p;
	size_t n;
	unsigned mode;
	bool durable;
};

static int write_new(int dirfd, const char *path, const struct content *c)
{
	auto_close int fd = -1;
	int r;

	if (unlinkat(dirfd, path, 0) < 0 && errno != ENOENT) /* left by a crash */
		return -errno;
	fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, c->mode);
	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, c->p, c->n);
	if (r < 0)
		return r;
	return c->durable && fsync(fd) < 0 ? -errno : 0;
}

static int replace(int dirfd, const char *path, const struct content *c)
{
	char tmp[PATH_MAX];
	int r = str_fit(tmp, sizeof(tmp), "%s.tmp", path);

	if (r < 0)
		return r;
	r = write_new(dirfd, tmp, c);
	if (r == 0 && renameat(dirfd, tmp, dirfd, path) < 0)
		r = -errno;
	if (r < 0) {
		unlinkat(dirfd, tmp, 0);
		return r;
	}
	return c->durable ? sync_parent(dirfd, path) : 0;
}

int file_write_atomic_at(int dirfd, const char *path, const void *p, size_t n, unsigned mode)
{
	return replace(dirfd, path, &(struct content){ p, n, mode, .durable = true });
}

int file_write_hint_at(int dirfd, const char *path, const void *p, size_t n, unsigned mode)
{
	return replace(dirfd, path, &(struct content){ p, n, mode, .durable = false });
}

int file_write_at(int dirfd, const char *path, const char *text)
{
	auto_close int fd = openat(dirfd, path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
	ssize_t n;

	if (fd < 0)
		return -errno;
	n = write(fd, text,
		  strlen(text)); /* kernel files take a value in one write or not at all */
	return n < 0 ? -errno : 0;
}

static int make_dir(const char *path)
{
	struct stat st;

	if (mkdir(path, 0755) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

int file_mkdirs(const char *path)
{
	char part[PATH_MAX];
	int r = str_fit(part, sizeof(part), "%s", path);

	if (r < 0)
		return r;
	if (part[0] == '\0')
		return -ENOENT;
	for (char *p = part + 1; *p != '\0'; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		r = make_dir(part);
		if (r < 0)
			return r;
		*p = '/';
	}
	return make_dir(part);
}

static int remove_entry(int dirfd, const char *name, unsigned depth);

static int remove_children(int parent_fd, const char *name, unsigned depth)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	int first = 0;
	int r = dir_open_at(parent_fd, name, O_NOFOLLOW, &d);

	if (r < 0)
		return r;
	while ((r = dir_next(d, &entry)) > 0) {
		r = remove_entry(dirfd(d), entry->d_name, depth + 1);
		first = first < 0 ? first : r;
	}
	return first < 0 ? first : r;
}

static int remove_entry(int dirfd, const char *name, unsigned depth)
{
	int r;

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	if (depth > TREE_DEPTH_MAX)
		return -ELOOP;
	r = remove_children(dirfd, name, depth);
	if (r < 0)
		return r;
	return unlinkat(dirfd, name, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}

int file_remove_tree_at(int dirfd, const char *path)
{
	return remove_entry(dirfd, path, 0);
}
