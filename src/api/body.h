/* SPDX-License-Identifier: Apache-2.0 */
/* Request bodies: JSON objects and their fields, read strictly. No HTTP here, so it can be fuzzed.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"

/**
 * body_object() - the JSON object that a body is
 * @out:	new reference; of an empty body an empty object when @may_be_empty
 *
 * Return: 0; -errno with @e set (ERR_INVALID).
 */
must_check int body_object(const char *body, size_t n, bool may_be_empty, json_t **out,
			   struct err *e);

/**
 * body_int() - a whole number
 * @least:	smaller ones are refused, naming it
 * @out:	unchanged when the field is absent
 *
 * Return: 1 it is there; 0 absent; -errno with @e set. A field that is null is absent.
 */
must_check int body_int(const json_t *o, const char *key, int64_t least, int64_t *out,
			struct err *e);

/**
 * body_text() - a string
 * @out:	borrowed from @o; unchanged when the field is absent
 *
 * Return: as body_int().
 */
must_check int body_text(const json_t *o, const char *key, const char **out, struct err *e);

/** body_bool() - true or false; @out is unchanged when the field is absent. Return: as body_int()
 */
must_check int body_bool(const json_t *o, const char *key, bool *out, struct err *e);

/** body_asks_nothing() - whether a field asks for nothing: absent, null, false, or an empty list or
 * object */
bool body_asks_nothing(const json_t *v);

/** body_is_null() - whether a field is there and null */
bool body_is_null(const json_t *o, const char *key);
