/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/str.h"
#include "os/unpack-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { DIR_MODE = 0755 };

void unpack_place_done(struct unpack_place *p)
{
	fd_close(&p->dir_fd);
	free(take_ptr(&p->name));
}

int unpack_path(const char *path, char **out, struct err *e)
{
	auto_free char *clean = xcalloc(1, strlen(path) + 1);
	size_t len = 0;

	if (path[0] == '/')
		return err_set(e, ERR_INVALID, "the tar stream has an absolute path: %.200s", path);
	for (const char *p = path; *p != '\0'; p += strspn(p, "/")) {
		size_t n = strcspn(p, "/");

		if (n == 2 && memcmp(p, "..", 2) == 0)
			return err_set(e, ERR_INVALID,
				       "the tar stream has a path with '..' in it: %.200s", path);
		if (!(n == 1 && *p == '.')) {
			if (len > 0)
				clean[len++] = '/';
			memcpy(clean + len, p, n);
			len += n;
		}
		p += n;
	}
	*out = take_ptr(&clean);
	return 0;
}

int unpack_open_dir(int top_fd, const char *path, bool readable)
{
	struct open_how how = {
		.flags = O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW |
			 (uint64_t)(readable ? O_RDONLY : O_PATH),
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
	};
	long fd;

	do {
		fd = syscall(SYS_openat2, top_fd, path, &how, sizeof(how));
	} while (fd < 0 && (errno == EINTR || errno == EAGAIN)); /* a rename raced with it */
	return fd < 0 ? -errno : (int)fd;
}

/* One directory that is missing on the way. Return: its fd; -errno. */
static int make_dir(int dir_fd, const char *name, const struct unpack_owner *owner)
{
	if (mkdirat(dir_fd, name, DIR_MODE) < 0)
		return errno == EEXIST ? unpack_open_dir(dir_fd, name, false) : -errno;
	if (owner->set && fchownat(dir_fd, name, owner->uid, owner->gid, AT_SYMLINK_NOFOLLOW) < 0)
		return -errno;
	return unpack_open_dir(dir_fd, name, false);
}

/* Step by step, since something is missing. Return: fd; -errno. */
static int make_dirs(int top_fd, char *path, const struct unpack_owner *owner)
{
	auto_close int fd = unpack_open_dir(top_fd, ".", false);
	char *rest = path;
	const char *name;

	while (fd >= 0 && (name = strsep(&rest, "/")) != NULL) {
		int below = unpack_open_dir(fd, name, false);

		if (below == -ENOENT)
			below = make_dir(fd, name, owner);
		if (below < 0)
			return below;
		fd_close(&fd);
		fd = below;
	}
	return take_fd(&fd);
}

int unpack_find(int top_fd, const char *path, const struct unpack_owner *owner,
		struct unpack_place *out, struct err *e)
{
	auto_free char *parent = str_dup(path);
	char *slash = strrchr(parent, '/');
	const char *name = slash != NULL ? path + (slash - parent) + 1 : path;
	int fd;

	if (slash != NULL)
		*slash = '\0';
	fd = unpack_open_dir(top_fd, slash != NULL ? parent : ".", false);
	if (fd == -ENOENT)
		fd = make_dirs(top_fd, parent, owner);
	if (fd < 0)
		return err_errno(e, -fd, "open the directory of %s", path);
	*out = (struct unpack_place){ .dir_fd = fd, .name = str_dup(name) };
	return 0;
}
