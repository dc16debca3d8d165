/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/dirs.h"

#include "base/str.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIR_MODE = 0755 };

/* Return: 0; -ENOTDIR; -ENOENT; -errno. */
static int check_dir(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return -errno;
	return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

static int make_one(const char *path, const struct user *owner)
{
	if (mkdir(path, DIR_MODE) < 0)
		return errno == EEXIST ? check_dir(path) : -errno;
	if (geteuid() == owner->uid && getegid() == owner->gid)
		return 0;
	return lchown(path, owner->uid, owner->gid) < 0 ? -errno : 0;
}

int dirs_make(const char *path, const struct user *owner)
{
	char part[PATH_MAX];
	int r = check_dir(path);

	if (r != -ENOENT)
		return r;
	r = str_fit(part, sizeof(part), "%s", path);
	for (char *p = part; r == 0 && (p = strchr(p + 1, '/')) != NULL; *p = '/') {
		*p = '\0';
		r = make_one(part, owner);
	}
	return r < 0 ? r : make_one(path, owner);
}

int dirs_make_parent(const char *path, const struct user *owner)
{
	char parent[PATH_MAX];
	const char *slash = strrchr(path, '/');
	int r;

	if (slash == NULL || slash == path)
		return 0; /* in the root */
	r = str_fit(parent, sizeof(parent), "%.*s", (int)(slash - path), path);
	return r < 0 ? r : dirs_make(parent, owner);
}
