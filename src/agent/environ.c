/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/environ.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

static const char default_path[] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

int environment_check(json_t *vars, struct connect_error *e)
{
	const char *name;
	json_t *value;

	json_object_foreach(
		vars, name,
		value) if (name[0] == '\0' ||
			   strchr(name, '=') !=
				   NULL) return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
								  "invalid name of an environment "
								  "variable: '%s'",
								  name);
	return 0;
}

static int fill(struct environment *env)
{
	const char *name;
	json_t *value;
	size_t n = 0;

	env->envp = calloc(json_object_size(env->vars) + 1, sizeof(*env->envp));
	if (env->envp == NULL)
		return -ENOMEM;
	json_object_foreach(env->vars, name, value)
	{
		char *entry;

		/* asprintf(), not str_printf(): a client gives the size. */
		if (asprintf(&entry, "%s=%s", name, json_string_value(value)) < 0)
			return -ENOMEM;
		env->envp[n++] = entry;
	}
	return 0;
}

int environment_make(const struct user *user, json_t *shared, json_t *own, struct environment *out,
		     struct connect_error *e)
{
	auto_environment env = { 0 };

	if (own != NULL && environment_check(own, e) < 0)
		return -EPROTO;
	env.vars = json_pack("{s:s, s:s, s:s, s:s}", "PATH", default_path, "HOME", user->home,
			     "USER", user->name, "LOGNAME", user->name);
	if (env.vars == NULL || json_object_update(env.vars, shared) < 0 ||
	    (own != NULL && json_object_update(env.vars, own) < 0) || fill(&env) < 0)
		return connect_error_set(e, CONNECT_RESOURCE_EXHAUSTED,
					 "no memory for the environment");
	*out = env;
	env = (struct environment){ 0 };
	return 0;
}

void environment_done(struct environment *env)
{
	for (size_t i = 0; env->envp != NULL && env->envp[i] != NULL; i++)
		free((char *)(uintptr_t)env->envp[i]);
	free(env->envp);
	json_decref(env->vars);
	*env = (struct environment){ 0 };
}
