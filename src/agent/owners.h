/* SPDX-License-Identifier: Apache-2.0 */
/* Names of owners and groups for a listing. /etc/passwd and /etc/group are read once for each. */
#pragma once

#include "base/vec.h"

#include <sys/types.h>

struct owner_name {
	uint64_t id;
	char *name;
};

VEC_DEFINE(owner_names, struct owner_name)

/* Zeroed = nothing read yet. */
struct owners {
	struct owner_names users;
	struct owner_names groups;
	bool have_users;
	bool have_groups;
};

enum { OWNER_NAME_SIZE = 64 };

/** owners_user() - the name of a user, or the number if it has none */
void owners_user(struct owners *o, uid_t id, char out[OWNER_NAME_SIZE]);

/** owners_group() - the name of a group, or the number if it has none */
void owners_group(struct owners *o, gid_t id, char out[OWNER_NAME_SIZE]);

/** owners_done() - free; idempotent on a zeroed one */
void owners_done(struct owners *o);

#define auto_owners cleanup(owners_done) struct owners
