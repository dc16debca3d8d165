/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/policy.h"

#include "base/parse.h"
#include "base/str.h"

#include <limits.h>

bool policy_is_option(int c)
{
	return c >= POLICY_RESTART && c <= POLICY_ON_IDLE;
}

static int take_idle(const struct verb *verb, json_t *own)
{
	uint64_t seconds;

	if (streq(optarg, "no"))
		return json_object_set_new(own, "idle", json_null());
	if (parse_duration_s(optarg, &seconds) < 0 || seconds > INT_MAX)
		return cli_usage(verb,
				 "--idle %s is no time; say for example 90s, 15m or 2h, or no",
				 optarg);
	return json_object_set_new(own, "idle", json_integer((json_int_t)seconds));
}

int policy_take_option(const struct verb *verb, json_t *own, int c)
{
	if (c == POLICY_RESTART)
		return json_object_set_new(own, "restart", json_string(optarg));
	if (c == POLICY_ON_IDLE)
		return json_object_set_new(own, "onIdle", json_string(optarg));
	return take_idle(verb, own);
}
