/* SPDX-License-Identifier: Apache-2.0 */
#include "api/change-request.h"

#include "api/body.h"
#include "api/policy-request.h"
#include "base/str.h"

#include <stdlib.h>

enum { USER_MAX_LEN = 128, ENV_MAX_BYTES = 1024 * 1024 };

/* @known: of @n. @where: what names of fields begin with. */
static int check_keys(const json_t *o, const char *where, const char *const *known, size_t n,
		      struct err *e)
{
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)o, key, v)
	{
		bool found = false;

		for (size_t i = 0; i < n; i++)
			found = found || streq(key, known[i]);
		if (!found)
			return err_set(e, ERR_INVALID,
				       "field '%s%.64s' cannot be changed: a sandbox's "
				       "defaultUser, envs, vivarium.restart, vivarium.idle and "
				       "vivarium.onIdle can",
				       where, key);
	}
	return 0;
}

static int take_policy(const json_t *o, struct change_request *out, struct err *e)
{
	static const char *const known[] = { "restart", "idle", "onIdle" };
	const json_t *own = json_object_get(o, "vivarium");
	int r;

	if (own == NULL)
		return 0;
	if (!json_is_object(own))
		return err_set(e, ERR_INVALID, "field 'vivarium' must be an object");
	r = check_keys(own, "vivarium.", known, ARRAY_SIZE(known), e);
	out->has_policy = true;
	return r < 0 ? r : policy_request_take(own, &out->policy, e);
}

static int take_user(const json_t *o, char **out, struct err *e)
{
	const json_t *v = json_object_get(o, "defaultUser");
	const char *name = json_string_value(v);

	if (v == NULL)
		return 0;
	if (name == NULL || name[0] == '\0' || strlen(name) > USER_MAX_LEN ||
	    strpbrk(name, ":\n") != NULL)
		return err_set(e, ERR_INVALID,
			       "field 'defaultUser' must be a user's name, of 1 to %d bytes",
			       USER_MAX_LEN);
	*out = str_dup(name);
	return 0;
}

static int merge_one(json_t *env, const char *name, json_t *value, struct err *e)
{
	if (name[0] == '\0' || strchr(name, '=') != NULL)
		return err_set(e, ERR_INVALID,
			       "field 'envs': '%.64s' cannot name an environment variable", name);
	if (json_is_null(value)) {
		json_object_del(env, name); /* absent is as good */
		return 0;
	}
	if (!json_is_string(value))
		return err_set(e, ERR_INVALID,
			       "field 'envs': the value of '%.64s' must be a string, or null to "
			       "remove it",
			       name);
	return json_object_set(env, name, value) < 0
		       ? err_set(e, ERR_INTERNAL, "no memory for field 'envs'")
		       : 0;
}

static int take_envs(const json_t *o, const char *now_json, char **out, struct err *e)
{
	json_t *patch = json_object_get(o, "envs");
	auto_json *env = json_loads(now_json, 0, NULL);
	const char *name;
	json_t *value;

	if (patch == NULL)
		return 0;
	if (!json_is_object(patch))
		return err_set(e, ERR_INVALID, "field 'envs' must be an object of strings");
	if (env == NULL)
		env = json_object();
	json_object_foreach(patch, name, value)
	{
		int r = merge_one(env, name, value, e);

		if (r < 0)
			return r;
	}
	*out = json_dumps(env, JSON_COMPACT);
	if (*out == NULL)
		return err_set(e, ERR_INTERNAL, "no memory for field 'envs'");
	/* Patch upon patch may not grow without end. */
	if (strlen(*out) > ENV_MAX_BYTES)
		return err_set(e, ERR_INVALID, "field 'envs': the environment would be over %d MiB",
			       ENV_MAX_BYTES / (1024 * 1024));
	return 0;
}

int change_request_parse(const char *body, size_t n, const struct db_sandbox *row,
			 struct change_request *out, struct err *e)
{
	static const char *const known[] = { "defaultUser", "envs", "vivarium" };
	auto_json *o = NULL;
	int r = body_object(body, n, false, &o, e);

	out->policy = sandbox_policy_of(row);
	if (r == 0)
		r = check_keys(o, "", known, ARRAY_SIZE(known), e);
	if (r == 0)
		r = take_policy(o, out, e);
	if (r == 0)
		r = take_user(o, &out->user, e);
	return r < 0 ? r : take_envs(o, row->env_json, &out->env_json, e);
}

void change_request_done(struct change_request *c)
{
	free(c->user);
	free(c->env_json);
	*c = (struct change_request){ 0 };
}
