/* SPDX-License-Identifier: Apache-2.0 */
/* The options that say where a sandbox may go; several verbs have them. */
#pragma once

#include "base/json.h"

#include <getopt.h>

/* For getopt_long(); what it returns for them begins behind all characters. */
enum { EGRESS_ALLOW_OUT = 256, EGRESS_DENY_OUT, EGRESS_NO_INTERNET };

#define EGRESS_OPTIONS                                                                             \
	{ "allow-out", required_argument, NULL, EGRESS_ALLOW_OUT },                                \
		{ "deny-out", required_argument, NULL, EGRESS_DENY_OUT },                          \
	{                                                                                          \
		"no-internet", no_argument, NULL, EGRESS_NO_INTERNET                               \
	}

#define EGRESS_USAGE "[--allow-out ADDRESS]... [--deny-out ADDRESS]... [--no-internet]"

#define EGRESS_HELP                                                                                \
	"  --allow-out ADDR   it may go to an address or range, whatever is denied\n"              \
	"  --deny-out ADDR    it may not go to an address or range, e.g. 192.0.2.0/24\n"           \
	"  --no-internet      it may go nowhere but where --allow-out says\n"

/** egress_is_option() - whether what getopt_long() returned is one of these options */
bool egress_is_option(int c);

/**
 * egress_take_option() - put an option into a request
 * @request:	has the field allow_internet_access
 * @lists:	has the fields allowOut and denyOut; may be the same
 *
 * Return: 0; -1 its value is not UTF-8.
 */
must_check int egress_take_option(json_t *request, json_t *lists, int c);
