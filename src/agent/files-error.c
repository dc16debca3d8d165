/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/files-error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

int files_error_set(struct files_error *e, int status, const char *fmt, ...)
{
	va_list ap;

	if (e->status != 0)
		return -EPROTO;
	e->status = status;
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	return -EPROTO;
}

static int status_of(int code)
{
	switch (code) {
	case ELOOP:
	case ENAMETOOLONG:
	case ENXIO:
	case EINVAL:
		return 400;
	case EACCES:
	case EPERM:
	case EROFS:
		return 403;
	case ETXTBSY:
	case EBUSY:
		return 409;
	case ENFILE:
	case EMFILE:
	case ENOMEM:
		return 503;
	default:
		return 500;
	}
}

int files_error_errno(struct files_error *e, int code, const char *what, const char *path)
{
	switch (code) {
	case ENOENT:
		return files_error_set(e, 404, "path '%.400s' does not exist", path);
	case EISDIR:
		return files_error_set(e, 400, "path '%.400s' is a directory", path);
	case ENOTDIR:
		return files_error_set(e, 400, "a part of path '%.400s' is not a directory", path);
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return files_error_set(e, 507, "%s '%.300s': not enough disk space available (%s)",
				       what, path, strerror(code));
	default:
		return files_error_set(e, status_of(code), "%s '%.400s': %s", what, path,
				       strerror(code));
	}
}

int files_check_regular(mode_t mode, const char *path, struct files_error *e)
{
	if (S_ISREG(mode))
		return 0;
	if (S_ISDIR(mode))
		return files_error_errno(e, EISDIR, "open", path);
	return files_error_set(e, 400, "path '%.400s' is not a regular file", path);
}
