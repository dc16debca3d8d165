/* SPDX-License-Identifier: Apache-2.0 */
#include "base/dir.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>

int dir_open_at(int dirfd, const char *path, int flags, DIR **out)
{
	auto_close int fd = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | flags);
	DIR *d = fd < 0 ? NULL : fdopendir(fd);

	if (d == NULL)
		return -errno;
	take_fd(&fd); /* owned by d from here on */
	*out = d;
	return 0;
}

int dir_next(DIR *d, const struct dirent **out)
{
	const struct dirent *entry;

	do {
		errno = 0;
		entry = readdir(d);
	} while (entry != NULL && (streq(entry->d_name, ".") || streq(entry->d_name, "..")));
	if (entry == NULL)
		return -errno;
	*out = entry;
	return 1;
}

void dir_close(DIR **d)
{
	if (*d != NULL)
		closedir(*d);
	*d = NULL;
}
