/* SPDX-License-Identifier: Apache-2.0 */
/* The paths that clients give. */
#pragma once

#include "base/macros.h"

#include <limits.h>

/**
 * path_resolve() - the absolute form of a path
 * @path:	absolute; relative to the home; "~" and "~/…" are the home; "" is @workdir
 * @home:	the user's home
 * @workdir:	as @path; NULL = the home
 * @out:	absolute, without empty, "." and ".." parts, which go before any link is followed
 *
 * Return: 0; -EINVAL somebody else's home ("~name"); -ENAMETOOLONG.
 */
must_check int path_resolve(const char *path, const char *home, const char *workdir,
			    char out[PATH_MAX]);

/** path_name() - the last part of an absolute clean path; "/" of "/" */
const char *path_name(const char *path);
