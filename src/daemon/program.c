/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/program.h"

#include "base/str.h"
#include "viv-config.h"

#include <limits.h>
#include <unistd.h>

char *program_find(const char *name)
{
	char own[PATH_MAX] = "";
	ssize_t n = readlink("/proc/self/exe", own, sizeof(own) - 1);
	const char *slash = n > 0 ? strrchr(own, '/') : NULL;
	auto_free char *path = NULL;

	if (slash != NULL)
		path = str_printf("%.*s/%s", (int)(slash - own), own, name);
	if (path != NULL && access(path, X_OK) == 0)
		return take_ptr(&path);
	return str_printf("%s/%s", VIV_LIBEXECDIR, name);
}
