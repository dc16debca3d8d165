/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/field.h"

#include "base/base64.h"
#include "base/parse.h"

#include <ctype.h>
#include <errno.h>

enum { FIELD_NAME_SIZE = 64 };

static void snake_case(const char *camel, char out[FIELD_NAME_SIZE])
{
	size_t n = 0;

	for (; *camel != '\0' && n < FIELD_NAME_SIZE - 2; camel++) {
		if (isupper((unsigned char)*camel))
			out[n++] = '_';
		out[n++] = (char)tolower((unsigned char)*camel);
	}
	out[n] = '\0';
}

json_t *field_get(const json_t *message, const char *name)
{
	char snake[FIELD_NAME_SIZE];
	json_t *value = json_object_get(message, name);

	if (value == NULL) {
		snake_case(name, snake);
		value = json_object_get(message, snake);
	}
	return json_is_null(value) ? NULL : value;
}

static int type_error(struct connect_error *e, const char *name, const char *what)
{
	return connect_error_set(e, CONNECT_INVALID_ARGUMENT, "field '%s' must be %s", name, what);
}

int field_string(const json_t *message, const char *name, const char **out, struct connect_error *e)
{
	json_t *value = field_get(message, name);

	if (value == NULL)
		return 0;
	if (!json_is_string(value))
		return type_error(e, name, "a string");
	*out = json_string_value(value);
	return 0;
}

int field_bool(const json_t *message, const char *name, bool *out, struct connect_error *e)
{
	json_t *value = field_get(message, name);

	if (value == NULL)
		return 0;
	if (!json_is_boolean(value))
		return type_error(e, name, "true or false");
	*out = json_is_true(value);
	return 0;
}

int field_u64(const json_t *message, const char *name, uint64_t max, uint64_t *out,
	      struct connect_error *e)
{
	json_t *value = field_get(message, name);
	uint64_t number = 0;
	bool ok = false;

	if (value == NULL)
		return 0;
	if (json_is_string(value)) {
		ok = parse_u64(json_string_value(value), 0, max, &number) == 0;
	} else if (json_is_integer(value) && json_integer_value(value) >= 0) {
		number = (uint64_t)json_integer_value(value);
		ok = number <= max;
	}
	if (!ok)
		return connect_error_set(e, CONNECT_INVALID_ARGUMENT,
					 "field '%s' must be a number from 0 to %llu", name,
					 (unsigned long long)max);
	*out = number;
	return 1;
}

int field_object(const json_t *message, const char *name, json_t **out, struct connect_error *e)
{
	json_t *value = field_get(message, name);

	if (value == NULL)
		return 0;
	if (!json_is_object(value))
		return type_error(e, name, "an object");
	*out = value;
	return 0;
}

static bool all_strings(json_t *value, bool array)
{
	const char *key;
	json_t *item;
	size_t i;

	if (array) {
		json_array_foreach(value, i, item) if (!json_is_string(item)) return false;
		return json_is_array(value);
	}
	json_object_foreach(value, key, item) if (!json_is_string(item)) return false;
	return json_is_object(value);
}

int field_strings(const json_t *message, const char *name, bool array, json_t **out,
		  struct connect_error *e)
{
	json_t *value = field_get(message, name);

	if (value == NULL)
		return 0;
	if (!all_strings(value, array))
		return type_error(e, name, array ? "an array of strings" : "an object of strings");
	*out = value;
	return 0;
}

int field_bytes(const json_t *message, const char *name, char **out, size_t *out_n,
		struct connect_error *e)
{
	json_t *value = field_get(message, name);
	int r;

	if (value == NULL)
		return 0;
	if (!json_is_string(value))
		return type_error(e, name, "base64");
	r = base64_decode(json_string_value(value), json_string_length(value), out, out_n);
	if (r == -ENOMEM)
		return connect_error_set(e, CONNECT_RESOURCE_EXHAUSTED, "out of memory");
	if (r < 0)
		return type_error(e, name, "base64");
	return 1;
}
