/* SPDX-License-Identifier: Apache-2.0 */
/* The options that say what becomes of a sandbox that fails, or that nobody uses; several verbs
 * have them. */
#pragma once

#include "cli/cli.h"

#include <getopt.h>

/* For getopt_long(), behind those of cli/egress.h. */
enum { POLICY_RESTART = 384, POLICY_IDLE, POLICY_ON_IDLE };

#define POLICY_OPTIONS                                                                             \
	{ "restart", required_argument, NULL, POLICY_RESTART },                                    \
		{ "idle", required_argument, NULL, POLICY_IDLE },                                  \
	{                                                                                          \
		"on-idle", required_argument, NULL, POLICY_ON_IDLE                                 \
	}

#define POLICY_USAGE "[--restart POLICY] [--idle TIME] [--on-idle WHAT]"

#define POLICY_HELP                                                                                \
	"  --restart POLICY   on-failure[:N]: started again, at most N times in a row (10), "      \
	"when\n"                                                                                   \
	"                     its VM fails; or no (no)\n"                                          \
	"  --idle TIME        unused for so long, e.g. 90s, 15m or 2h, it is paused; or no (no)\n" \
	"  --on-idle WHAT     then: pause or kill (pause)\n"

/** policy_is_option() - whether what getopt_long() returned is one of these options */
bool policy_is_option(int c);

/**
 * policy_take_option() - put an option into a request
 * @verb:	whose option it is
 * @own:	the object `vivarium` of the request
 *
 * Return: 0; an exit code, after saying why; -1 its value is not UTF-8.
 */
must_check int policy_take_option(const struct verb *verb, json_t *own, int c);
