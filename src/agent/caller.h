/* SPDX-License-Identifier: Apache-2.0 */
/* On whose behalf a request acts, and what a path means to that user. */
#pragma once

#include "agent/envelope.h"
#include "agent/user.h"

#include <limits.h>

struct agent;
struct connect_call;

/**
 * caller_find() - the user that a request names
 * @name:	NULL or "" = the sandbox's default user
 * @out:	user_done() frees it
 *
 * Return: 0; -EPROTO with @e set (CONNECT_UNAUTHENTICATED for one that there is not).
 */
must_check int caller_find(const struct agent *a, const char *name, struct user *out,
			   struct connect_error *e);

/** caller_of_call() - the user of "Authorization: Basic", as caller_find() */
must_check int caller_of_call(const struct agent *a, const struct connect_call *c, struct user *out,
			      struct connect_error *e);

/** caller_path() - path_resolve() for a user. Return: 0; -EPROTO with @e set */
must_check int caller_path(const struct agent *a, const struct user *user, const char *path,
			   char out[PATH_MAX], struct connect_error *e);
