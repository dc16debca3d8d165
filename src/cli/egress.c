/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/egress.h"

bool egress_is_option(int c)
{
	return c >= EGRESS_ALLOW_OUT && c <= EGRESS_NO_INTERNET;
}

static int append(json_t *lists, const char *key, const char *value)
{
	json_t *list = json_object_get(lists, key);

	if (list == NULL) {
		list = json_array();
		if (json_object_set_new(lists, key, list) < 0)
			return -1;
	}
	return json_array_append_new(list, json_string(value));
}

int egress_take_option(json_t *request, json_t *lists, int c)
{
	if (c == EGRESS_ALLOW_OUT)
		return append(lists, "allowOut", optarg);
	if (c == EGRESS_DENY_OUT)
		return append(lists, "denyOut", optarg);
	return json_object_set_new(request, "allow_internet_access", json_false());
}
