/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/user.h"

#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>

VEC_DEFINE(gids, gid_t)

static void close_file(FILE **f)
{
	if (*f != NULL)
		fclose(*f);
}

#define auto_file cleanup(close_file) FILE

static bool is_member(const struct group *group, const char *name)
{
	for (char **member = group->gr_mem; *member != NULL; member++)
		if (streq(*member, name))
			return true;
	return false;
}

static int read_groups(struct user *u)
{
	cleanup(gids_done) struct gids gids = { 0 };
	const struct group *group;
	auto_file *f = fopen("/etc/group", "re");

	if (f == NULL && errno != ENOENT)
		return -errno;
	gids_push(&gids, u->gid);
	while (f != NULL && gids.n < NGROUPS_MAX && (group = fgetgrent(f)) != NULL)
		if (group->gr_gid != u->gid && is_member(group, u->name))
			gids_push(&gids, group->gr_gid);
	u->n_groups = gids.n;
	u->groups = take_ptr(&gids.at);
	return 0;
}

static int read_passwd(const char *name, struct user *u)
{
	const struct passwd *entry;
	auto_file *f = fopen("/etc/passwd", "re");

	if (f == NULL && (errno != ENOENT || !streq(name, "root")))
		return -errno;
	if (f == NULL) {
		*u = (struct user){ .name = str_dup("root"), .home = str_dup("/root") };
		return 0;
	}
	while ((entry = fgetpwent(f)) != NULL) {
		if (!streq(entry->pw_name, name))
			continue;
		*u = (struct user){ .name = str_dup(name),
				    .home = str_dup(entry->pw_dir),
				    .uid = entry->pw_uid,
				    .gid = entry->pw_gid };
		return 0;
	}
	return -ENOENT;
}

int user_find(const char *name, struct user *out)
{
	auto_user u = { 0 };
	int r = read_passwd(name, &u);

	if (r < 0)
		return r;
	r = read_groups(&u);
	if (r < 0)
		return r;
	*out = u;
	u = (struct user){ 0 };
	return 0;
}

void user_done(struct user *u)
{
	free(u->name);
	free(u->home);
	free(u->groups);
	*u = (struct user){ 0 };
}
