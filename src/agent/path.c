/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/path.h"

#include "base/str.h"

#include <errno.h>

/* Goes from the clean path @out, "" at first, to another by the parts of @path. */
static int walk(const char *path, char out[PATH_MAX], size_t *len)
{
	while (*path != '\0') {
		size_t n = strcspn(path, "/");

		if (n == 2 && memcmp(path, "..", 2) == 0) {
			while (*len > 0 && out[--*len] != '/')
				;
		} else if (n > 0 && !(n == 1 && path[0] == '.')) {
			if (*len + 1 + n >= PATH_MAX)
				return -ENAMETOOLONG;
			out[(*len)++] = '/';
			memcpy(out + *len, path, n);
			*len += n;
		}
		path += n;
		path += strspn(path, "/");
	}
	return 0;
}

int path_resolve(const char *path, const char *home, const char *workdir, char out[PATH_MAX])
{
	size_t len = 0;
	int r = 0;

	if (path[0] == '\0' && workdir != NULL)
		path = workdir;
	if (path[0] == '~' && path[1] != '\0' && path[1] != '/')
		return -EINVAL;
	if (path[0] != '/')
		r = walk(home, out, &len);
	if (path[0] == '~')
		path++;
	if (r == 0)
		r = walk(path, out, &len);
	if (r < 0)
		return r;
	if (len == 0)
		out[len++] = '/';
	out[len] = '\0';
	return 0;
}

const char *path_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL && slash[1] != '\0' ? slash + 1 : path;
}
