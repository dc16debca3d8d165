/* SPDX-License-Identifier: Apache-2.0 */
#include "api/body.h"

#include <limits.h>

int body_object(const char *body, size_t n, bool may_be_empty, json_t **out, struct err *e)
{
	json_error_t why;
	auto_json *o = NULL;

	if (n == 0 && may_be_empty) {
		*out = json_object();
		return *out == NULL ? err_set(e, ERR_INTERNAL, "no memory for the request") : 0;
	}
	o = json_loadb(body, n, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &why);
	if (o == NULL)
		return err_set(e, ERR_INVALID, "body is not JSON: %s (line %d, column %d)",
			       why.text, why.line, why.column);
	if (!json_is_object(o))
		return err_set(e, ERR_INVALID, "body must be a JSON object");
	*out = json_incref(o);
	return 0;
}

int body_int(const json_t *o, const char *key, int64_t least, int64_t *out, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (v == NULL || json_is_null(v))
		return 0;
	if (!json_is_integer(v) || json_integer_value(v) < least || json_integer_value(v) > INT_MAX)
		return err_set(e, ERR_INVALID, "field '%s' must be a whole number from %lld to %d",
			       key, (long long)least, INT_MAX);
	*out = json_integer_value(v);
	return 1;
}

int body_text(const json_t *o, const char *key, const char **out, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (v == NULL || json_is_null(v))
		return 0;
	if (!json_is_string(v))
		return err_set(e, ERR_INVALID, "field '%s' must be a string", key);
	*out = json_string_value(v);
	return 1;
}

bool body_is_null(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return v != NULL && json_is_null(v);
}

int body_bool(const json_t *o, const char *key, bool *out, struct err *e)
{
	const json_t *v = json_object_get(o, key);

	if (v == NULL || json_is_null(v))
		return 0;
	if (!json_is_boolean(v))
		return err_set(e, ERR_INVALID, "field '%s' must be true or false", key);
	*out = json_is_true(v);
	return 1;
}

bool body_asks_nothing(const json_t *v)
{
	return v == NULL || json_is_null(v) || json_is_false(v) ||
	       (json_is_array(v) && json_array_size(v) == 0) ||
	       (json_is_object(v) && json_object_size(v) == 0);
}
