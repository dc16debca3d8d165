/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/caller.h"

#include "agent/agent.h"
#include "agent/connect.h"
#include "agent/path.h"
#include "base/str.h"

#include <errno.h>

int caller_find(const struct agent *a, const char *name, struct user *out, struct connect_error *e)
{
	int r;

	if (name == NULL || name[0] == '\0')
		name = a->identity.default_user;
	r = a->root_only && !streq(name, "root") ? -ENOENT : user_find(name, out);
	if (r == -ENOENT)
		return connect_error_set(e, CONNECT_UNAUTHENTICATED, "invalid username: '%.128s'",
					 name);
	if (r < 0)
		return connect_error_set(e, CONNECT_INTERNAL, "look up user '%.128s': %s", name,
					 strerror(-r));
	return 0;
}

int caller_of_call(const struct agent *a, const struct connect_call *c, struct user *out,
		   struct connect_error *e)
{
	auto_free char *name = NULL;

	if (connect_basic_user(connect_header(c, "Authorization"), &name, e) < 0)
		return -EPROTO;
	return caller_find(a, name, out, e);
}

int caller_path(const struct agent *a, const struct user *user, const char *path,
		char out[PATH_MAX], struct connect_error *e)
{
	int r = path_resolve(path, user->home, a->identity.default_workdir, out);

	if (r == -EINVAL)
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "path '%.256s': only one's own home can be named by '~'",
					 path);
	if (r < 0)
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT, "path '%.64s…' is too long",
					 path);
	return 0;
}
