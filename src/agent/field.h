/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the fields of a message in protobuf's JSON: names in camelCase or snake_case, null is
 * absent, numbers may be strings, bytes are base64. Absent fields leave *@out as it is.
 */
#pragma once

#include "agent/envelope.h"

/**
 * field_get() - a field of any type
 * @name:	in camelCase
 *
 * Return: borrowed; NULL when absent or null.
 */
json_t *field_get(const json_t *message, const char *name);

/** field_string() - borrowed from the message. Return: 0; -EPROTO with @e set */
must_check int field_string(const json_t *message, const char *name, const char **out,
			    struct connect_error *e);

/** field_bool() - true or false. Return: 0; -EPROTO with @e set */
must_check int field_bool(const json_t *message, const char *name, bool *out,
			  struct connect_error *e);

/** field_u64() - a number from 0 to @max. Return: 1 found; 0 absent; -EPROTO with @e set */
must_check int field_u64(const json_t *message, const char *name, uint64_t max, uint64_t *out,
			 struct connect_error *e);

/** field_object() - an object, borrowed. Return: 0; -EPROTO with @e set */
must_check int field_object(const json_t *message, const char *name, json_t **out,
			    struct connect_error *e);

/** field_strings() - an object of strings or (@array) an array of them. Return: 0; -EPROTO, @e set
 */
must_check int field_strings(const json_t *message, const char *name, bool array, json_t **out,
			     struct connect_error *e);

/** field_bytes() - decoded into new memory that the caller frees. Return: as field_u64() */
must_check int field_bytes(const json_t *message, const char *name, char **out, size_t *out_n,
			   struct connect_error *e);
