/* SPDX-License-Identifier: Apache-2.0 */
/* The environment of a process: the user's, then the sandbox's, then the request's. */
#pragma once

#include "agent/envelope.h"
#include "agent/user.h"

struct environment {
	json_t *vars;      /* name: value, in order */
	const char **envp; /* "name=value", ended by NULL */
};

/**
 * environment_make() - put an environment together
 * @shared:	the sandbox's variables
 * @own:	the request's; NULL = none
 * @out:	environment_done() frees it
 *
 * Return: 0; -EPROTO with @e set.
 */
must_check int environment_make(const struct user *user, json_t *shared, json_t *own,
				struct environment *out, struct connect_error *e);

/** environment_check() - whether all names can be names of variables. Return: 0; -EPROTO, @e set */
must_check int environment_check(json_t *vars, struct connect_error *e);

/** environment_done() - free; idempotent on a zeroed one */
void environment_done(struct environment *env);

#define auto_environment cleanup(environment_done) struct environment
