/* SPDX-License-Identifier: Apache-2.0 */
#include "template/kernel.h"

#include "base/dir.h"
#include "base/str.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

bool kernel_version_valid(const char *version)
{
	size_t n = strlen(version);

	if (n == 0 || n >= KERNEL_VERSION_SIZE || !isdigit((unsigned char)version[0]))
		return false;
	for (const char *p = version; *p != '\0'; p++)
		if (!isalnum((unsigned char)*p) && strchr(".+~_-", *p) == NULL)
			return false;
	return true;
}

/* Whether kernels/<version> is there. A directory gets its name when it is complete. */
static int look_up(const char *state_dir, const char *version, struct kernel *out)
{
	auto_free char *path = str_printf("%s/kernels/%s/vmlinux", state_dir, version);
	struct kernel found = { 0 };
	int r;

	if (!kernel_version_valid(version))
		return -ENOENT;
	if (access(path, F_OK) < 0)
		return -errno;
	str_copy(found.version, sizeof(found.version), version);
	r = str_fit(found.vmlinux, sizeof(found.vmlinux), "%s", path);
	if (r == 0)
		*out = found;
	return r;
}

/* Return: 0; -ENOENT none; -errno. */
static int find_newest(const char *state_dir, struct kernel *out)
{
	auto_free char *path = str_printf("%s/kernels", state_dir);
	auto_dir *d = NULL;
	struct kernel newest = { 0 };
	const struct dirent *entry;
	struct kernel k;
	int r = dir_open_at(AT_FDCWD, path, 0, &d);

	if (r < 0)
		return r;
	while ((r = dir_next(d, &entry)) > 0) {
		r = look_up(state_dir, entry->d_name, &k);
		if (r == -ENOENT || r == -ENOTDIR)
			continue;
		if (r < 0)
			return r;
		if (strverscmp(k.version, newest.version) > 0)
			newest = k;
	}
	if (r < 0)
		return r;
	if (newest.version[0] == '\0')
		return -ENOENT;
	*out = newest;
	return 0;
}

int kernel_find(const char *state_dir, const char *version, struct kernel *out, struct err *e)
{
	bool recorded = version != NULL && version[0] != '\0';
	int r;

	if (recorded && look_up(state_dir, version, out) == 0)
		return 0;
	r = find_newest(state_dir, out);
	if (r == -ENOENT)
		return err_set(e, ERR_NOT_FOUND,
			       "no guest kernel in %s/kernels: `vivd prepare` gets one", state_dir);
	if (r < 0)
		return err_errno(e, -r, "look for guest kernels in %s/kernels", state_dir);
	return recorded ? 1 : 0;
}
