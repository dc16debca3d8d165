/* SPDX-License-Identifier: Apache-2.0 */
#include "build/layer-path.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DIR_MODE = 0755 };

static int open_in_root(int root_fd, const char *path, int flags)
{
	struct open_how how = {
		.flags = (uint64_t)(unsigned)(flags | O_CLOEXEC),
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	do {
		fd = syscall(SYS_openat2, root_fd, path[0] != '\0' ? path : ".", &how, sizeof(how));
	} while (fd < 0 && (errno == EINTR || errno == EAGAIN));
	return fd < 0 ? -errno : (int)fd;
}

int layer_open_dir(int root_fd, const char *path, int flags)
{
	return open_in_root(root_fd, path, flags | O_DIRECTORY);
}

int layer_open_file(int root_fd, const char *path, uint64_t *out_bytes)
{
	auto_close int place = open_in_root(root_fd, path, O_PATH);
	auto_free char *again = NULL;
	struct stat st;
	int fd;

	if (place < 0)
		return place;
	if (fstat(place, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	again = str_printf("/proc/self/fd/%d", place);
	fd = open(again, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	*out_bytes = (uint64_t)st.st_size;
	return fd;
}

int layer_inode(int dir_fd, ino_t *out)
{
	struct stat st;

	if (fstat(dir_fd, &st) < 0)
		return -errno;
	*out = st.st_ino;
	return 0;
}

struct maker {
	int (*made)(ino_t dir, const char *name, void *arg);
	void *arg;
};

/* @name is what the last part of a path is called in @parent_fd. */
static int make_one(int parent_fd, const char *name, const struct maker *maker)
{
	struct stat st;

	if (mkdirat(parent_fd, name, DIR_MODE) < 0)
		return -errno; /* EEXIST: a link to nowhere */
	if (fchmodat(parent_fd, name, DIR_MODE, 0) < 0)
		return -errno;
	if (fstat(parent_fd, &st) < 0)
		return -errno;
	return maker->made == NULL ? 0 : maker->made(st.st_ino, name, maker->arg);
}

/* From the root on: the path up to its n-th part, then up to the next. */
static int make_each(int root_fd, char *path, const struct maker *maker)
{
	auto_close int fd = layer_open_dir(root_fd, "", O_PATH);
	char *name = path;

	while (fd >= 0 && name != NULL) {
		char *slash = strchr(name, '/');
		int below;

		if (slash != NULL)
			*slash = '\0';
		below = layer_open_dir(root_fd, path, O_PATH);
		if (below == -ENOENT) {
			below = make_one(fd, name, maker);
			if (below == 0)
				below = layer_open_dir(root_fd, path, O_PATH);
		}
		if (below < 0)
			return below;
		fd_close(&fd);
		fd = below;
		if (slash != NULL)
			*slash = '/';
		name = slash != NULL ? slash + 1 : NULL;
	}
	return take_fd(&fd);
}

int layer_make_dirs(int root_fd, const char *path,
		    int (*made)(ino_t dir, const char *name, void *arg), void *arg)
{
	struct maker maker = { made, arg };
	auto_free char *copy = NULL;
	int fd = layer_open_dir(root_fd, path, O_PATH);

	if (fd != -ENOENT)
		return fd;
	copy = str_dup(path);
	return make_each(root_fd, copy, &maker);
}
