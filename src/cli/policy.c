/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/policy.h"

#include "base/limits.h"
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
	uint64_t tries;

	if (c == POLICY_RESTART) {
		if (parse_restart(optarg, &tries) < 0)
			return cli_usage(verb,
					 "--restart %s: say no, on-failure or on-failure:N, with N "
					 "from 1 to %d",
					 optarg, RESTARTS_MAX);
		return json_object_set_new(own, "restart", json_string(optarg));
	}
	if (c == POLICY_ON_IDLE) {
		if (!streq(optarg, "pause") && !streq(optarg, "kill"))
			return cli_usage(verb, "--on-idle %s: say pause or kill", optarg);
		return json_object_set_new(own, "onIdle", json_string(optarg));
	}
	return take_idle(verb, own);
}
