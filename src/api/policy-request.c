/* SPDX-License-Identifier: Apache-2.0 */
#include "api/policy-request.h"

#include "base/limits.h"
#include "base/parse.h"
#include "base/str.h"

#include <limits.h>

static int take_restart(const json_t *own, uint64_t *out, struct err *e)
{
	const json_t *v = json_object_get(own, "restart");
	const char *text = json_is_null(v) ? "no" : json_string_value(v);

	if (v == NULL || (text != NULL && parse_restart(text, out) == 0))
		return 0;
	return err_set(e, ERR_INVALID,
		       "field 'vivarium.restart' must be no, on-failure or on-failure:N, with N "
		       "from 1 to %d",
		       RESTARTS_MAX);
}

static int take_idle(const json_t *own, uint64_t *out, struct err *e)
{
	const json_t *v = json_object_get(own, "idle");

	if (v == NULL)
		return 0;
	if (json_is_null(v)) {
		*out = 0;
		return 0;
	}
	if (!json_is_integer(v) || json_integer_value(v) < 1 || json_integer_value(v) > INT_MAX)
		return err_set(e, ERR_INVALID,
			       "field 'vivarium.idle' must be a whole number of seconds from 1 to "
			       "%d",
			       INT_MAX);
	*out = (uint64_t)json_integer_value(v);
	return 0;
}

static int take_on_idle(const json_t *own, struct sandbox_policy *policy, struct err *e)
{
	const json_t *v = json_object_get(own, "onIdle");
	const char *text = json_is_null(v) ? "pause" : json_string_value(v);

	if (v == NULL) {
		policy->idle_kill = policy->idle_kill && policy->idle_s > 0;
		return 0;
	}
	if (text == NULL || (!streq(text, "pause") && !streq(text, "kill")))
		return err_set(e, ERR_INVALID, "field 'vivarium.onIdle' must be pause or kill");
	if (policy->idle_s == 0 && !json_is_null(v))
		return err_set(e, ERR_INVALID,
			       "field 'vivarium.onIdle' says what vivarium.idle does: it needs "
			       "that");
	policy->idle_kill = streq(text, "kill");
	return 0;
}

int policy_request_take(const json_t *own, struct sandbox_policy *policy, struct err *e)
{
	int r = take_restart(own, &policy->restart_max, e);

	if (r == 0)
		r = take_idle(own, &policy->idle_s, e);
	return r < 0 ? r : take_on_idle(own, policy, e);
}
