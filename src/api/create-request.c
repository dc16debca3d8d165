/* SPDX-License-Identifier: Apache-2.0 */
#include "api/create-request.h"

#include "api/body.h"
#include "api/network-request.h"
#include "api/policy-request.h"
#include "base/json.h"
#include "base/parse.h"
#include "base/str.h"

#include <jansson.h>
#include <limits.h>

enum { TIMEOUT_V1_S = 15, TIMEOUT_V2_S = 300, TOKEN_HEX_LEN = 64 };

/* A field is named as clients write it, "vivarium.cpus": this is the member of its object. */
static const json_t *member(const json_t *o, const char *field)
{
	const char *dot = strrchr(field, '.');

	return json_object_get(o, dot != NULL ? dot + 1 : field);
}

/* A string field; absent and null leave *@field as it is. */
static int take_string(const json_t *o, const char *key, char **field, struct err *e)
{
	const json_t *v = member(o, key);

	if (v == NULL || json_is_null(v))
		return 0;
	if (!json_is_string(v))
		return err_set(e, ERR_INVALID, "field '%s' must be a string", key);
	db_set_str(field, json_string_value(v));
	return 0;
}

/* A whole number of at least 1; absent and null leave *@out as it is. */
static int take_positive(const json_t *o, const char *key, uint64_t max, uint64_t *out,
			 struct err *e)
{
	const json_t *v = member(o, key);

	if (v == NULL || json_is_null(v))
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < 1 ||
	    (uint64_t)json_integer_value(v) > max)
		return err_set(e, ERR_INVALID, "field '%s' must be a whole number from 1 to %llu",
			       key, (unsigned long long)max);
	*out = (uint64_t)json_integer_value(v);
	return 0;
}

/* An object of strings, kept as JSON text. */
static int take_string_map(const json_t *o, const char *key, bool env, char **field, struct err *e)
{
	json_t *v = json_object_get(o, key);
	const char *name;
	json_t *value;
	char *text;

	if (v == NULL || json_is_null(v))
		return 0;
	if (!json_is_object(v))
		return err_set(e, ERR_INVALID, "field '%s' must be an object of strings", key);
	json_object_foreach(v, name, value)
	{
		if (!json_is_string(value))
			return err_set(e, ERR_INVALID,
				       "field '%s': the value of '%s' must be a string", key, name);
		if (env && (name[0] == '\0' || strchr(name, '=') != NULL))
			return err_set(e, ERR_INVALID,
				       "field '%s': '%s' cannot name an environment variable", key,
				       name);
	}
	text = json_dumps(v, JSON_COMPACT);
	if (text == NULL)
		return err_set(e, ERR_INTERNAL, "no memory for field '%s'", key);
	free_ptr(field);
	*field = text;
	return 0;
}

static int take_timeout(const json_t *o, bool v2, uint64_t *out, struct err *e)
{
	const json_t *v = json_object_get(o, "timeout");

	*out = v2 ? TIMEOUT_V2_S : TIMEOUT_V1_S;
	if (v != NULL && json_is_null(v)) {
		*out = 0; /* ours: no deadline */
		return 0;
	}
	return take_positive(o, "timeout", INT_MAX, out, e);
}

static int take_secure(const json_t *o, bool v2, char **token, struct err *e)
{
	const json_t *v = json_object_get(o, "secure");
	char hex[TOKEN_HEX_LEN + 1];

	if (!v2 && v != NULL && !json_is_boolean(v) && !json_is_null(v))
		return err_set(e, ERR_INVALID, "field 'secure' must be true or false");
	if (v2 || json_is_true(v)) {
		random_hex(hex, TOKEN_HEX_LEN);
		db_set_str(token, hex);
	}
	return 0;
}

/* A flag; absent and null leave *@out as it is. */
static int take_flag(const json_t *o, const char *key, bool *out, struct err *e)
{
	const json_t *v = member(o, key);

	if (v == NULL || json_is_null(v))
		return 0;
	if (!json_is_boolean(v))
		return err_set(e, ERR_INVALID, "field '%s' must be true or false", key);
	*out = json_is_true(v);
	return 0;
}

/* What becomes of it at its deadline, and what ends its rest. */
static int take_lifecycle(const json_t *o, struct db_sandbox *out, struct err *e)
{
	const json_t *resume = json_object_get(o, "autoResume");
	bool memory = true;
	int r = take_flag(o, "autoPause", &out->auto_pause, e);

	if (r == 0)
		r = take_flag(o, "autoPauseMemory", &memory, e);
	if (r == 0 && resume != NULL && !json_is_null(resume) && !json_is_object(resume))
		r = err_set(e, ERR_INVALID, "field 'autoResume' must be an object");
	if (r == 0)
		r = take_flag(resume, "autoResume.enabled", &out->auto_resume, e);
	if (r < 0)
		return r;
	if (!memory && !out->auto_pause)
		return err_set(e, ERR_INVALID,
			       "field 'autoPauseMemory' says what autoPause keeps: it needs that");
	if (!memory && out->auto_resume)
		return err_set(e, ERR_INVALID,
			       "field 'autoPauseMemory': what is paused without its memory cannot "
			       "be woken by requests; leave out autoResume");
	out->auto_pause_disk_only = !memory;
	return 0;
}

static int refuse(const char *what, struct err *e)
{
	return err_set(e, ERR_INVALID, "field '%s' is not supported by this version of vivd", what);
}

/* What E2B knows and we have not: never accepted and ignored. */
static int check_unsupported(const json_t *o, struct err *e)
{
	static const char *const off[] = { "mcp", "iam", "volumeMounts" };

	for (size_t i = 0; i < ARRAY_SIZE(off); i++) {
		if (!body_asks_nothing(json_object_get(o, off[i])))
			return refuse(off[i], e);
	}
	return 0;
}

static int check_own_keys(const json_t *own, struct err *e)
{
	static const char *const known[] = { "name",    "cpus",    "memoryMB", "diskSizeMB", "user",
					     "workdir", "restart", "idle",     "onIdle" };
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)own, key, v)
	{
		bool found = false;

		for (size_t i = 0; i < ARRAY_SIZE(known); i++)
			found = found || streq(key, known[i]);
		if (!found)
			return err_set(e, ERR_INVALID, "field 'vivarium.%s' is unknown", key);
	}
	return 0;
}

static int take_own(const json_t *o, struct db_sandbox *out, struct err *e)
{
	const json_t *own = json_object_get(o, "vivarium");
	struct sandbox_policy policy = { 0 };
	uint64_t cpus = 0;
	int r;

	if (own == NULL || json_is_null(own))
		return 0;
	if (!json_is_object(own))
		return err_set(e, ERR_INVALID, "field 'vivarium' must be an object");
	r = check_own_keys(own, e);
	if (r == 0)
		r = take_string(own, "vivarium.name", &out->name, e);
	if (r == 0)
		r = take_string(own, "vivarium.user", &out->user, e);
	if (r == 0)
		r = take_string(own, "vivarium.workdir", &out->workdir, e);
	if (r == 0)
		r = take_positive(own, "vivarium.cpus", INT_MAX, &cpus, e);
	if (r == 0)
		r = take_positive(own, "vivarium.memoryMB", INT_MAX, &out->memory_mib, e);
	if (r == 0)
		r = take_positive(own, "vivarium.diskSizeMB", INT_MAX, &out->disk_mib, e);
	out->cpus = (unsigned)cpus;
	if (r == 0)
		r = policy_request_take(own, &policy, e);
	sandbox_policy_put(&policy, out);
	return r;
}

int create_request_parse(const char *body, size_t n, bool v2, struct db_sandbox *out, struct err *e)
{
	auto_json *o = NULL;
	int r = body_object(body, n, false, &o, e);

	if (r < 0)
		return r;
	r = take_string(o, "templateID", &out->template_name, e);
	if (r == 0 && out->template_name[0] == '\0')
		return err_set(e, ERR_INVALID, "field 'templateID' is missing");
	if (r == 0)
		r = take_timeout(o, v2, &out->timeout_s, e);
	if (r == 0)
		r = take_string_map(o, "metadata", false, &out->metadata_json, e);
	if (r == 0)
		r = take_string_map(o, "envVars", true, &out->env_json, e);
	if (r == 0)
		r = take_lifecycle(o, out, e);
	if (r == 0)
		r = check_unsupported(o, e);
	if (r == 0)
		r = take_own(o, out, e);
	if (r == 0)
		r = take_secure(o, v2, &out->access_token, e);
	return r < 0 ? r : network_request_take(o, out, e);
}
