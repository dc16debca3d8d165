/* SPDX-License-Identifier: Apache-2.0 */
/* Users and groups of the guest, read from /etc/passwd and /etc/group (no NSS in a static binary).
 */
#pragma once

#include "base/macros.h"

#include <sys/types.h>

struct user {
	char *name;
	char *home;
	uid_t uid;
	gid_t gid;
	gid_t *groups; /* supplementary ones, the primary among them */
	size_t n_groups;
};

/**
 * user_find() - look a user up by name
 * @out:	user_done() frees it; untouched on failure
 *
 * Without an /etc/passwd (an image may have none) the only user is root.
 * Return: 0; -ENOENT no such user; -errno.
 */
must_check int user_find(const char *name, struct user *out);

/** user_done() - free; idempotent on a zeroed one */
void user_done(struct user *u);

#define auto_user cleanup(user_done) struct user
