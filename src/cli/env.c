/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/env.h"

#include "base/str.h"

#include <stdlib.h>

int env_add(json_t *env, const char *text)
{
	const char *eq = strchr(text, '=');
	auto_free char *name = str_dup(text);
	const char *value = eq != NULL ? eq + 1 : getenv(text);

	if (eq != NULL)
		name[eq - text] = '\0';
	if (name[0] == '\0')
		return -1;
	return value == NULL ? 0 : json_object_set_new(env, name, json_string(value));
}
