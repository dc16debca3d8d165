/* SPDX-License-Identifier: Apache-2.0 */
#include "api/api-internal.h"
#include "base/clock.h"
#include "base/str.h"

#include <stdlib.h>

const struct http_field api_cors_fields[] = {
	{ "Access-Control-Allow-Origin", "*" },
	{ "Access-Control-Expose-Headers", "*" },
	{ NULL, NULL },
};

enum { FIELDS_MAX = 16 };

/* What every reply has, and a reply's own. */
static void all_fields(const struct http_field *own, struct http_field all[FIELDS_MAX])
{
	size_t n = 0;

	for (const struct http_field *f = api_cors_fields; f->name != NULL; f++)
		all[n++] = *f;
	for (; own != NULL && own->name != NULL; own++) {
		assert(n < FIELDS_MAX - 1);
		all[n++] = *own;
	}
	all[n] = (struct http_field){ NULL, NULL };
}

void reply_bytes(struct http_exchange *x, int status, const struct http_field *fields,
		 const char *content_type, const void *body, size_t n)
{
	struct http_field all[FIELDS_MAX];

	all_fields(fields, all);
	http_reply(x, status, all, content_type, body, n);
}

void reply_start(struct http_exchange *x, int status, const struct http_field *fields)
{
	struct http_field all[FIELDS_MAX];

	all_fields(fields, all);
	http_reply_start(x, status, all, -1);
}

bool api_is_preflight(const struct http_head *head)
{
	return streq(head->method, "OPTIONS") &&
	       http_head_get(head, "Access-Control-Request-Method") != NULL;
}

void reply_preflight(struct http_exchange *x)
{
	/* The star does not stand for Authorization. */
	static const struct http_field fields[] = {
		{ "Access-Control-Allow-Methods", "*" },
		{ "Access-Control-Allow-Headers", "*, Authorization" },
		{ "Access-Control-Max-Age", "7200" },
		{ NULL, NULL },
	};

	reply_bytes(x, 204, fields, NULL, NULL, 0);
}

json_t *json_of_text(const char *text)
{
	json_t *string = json_string(text);
	auto_free char *plain = NULL;

	if (string != NULL)
		return string;
	plain = str_dup(text);
	for (char *p = plain; *p != '\0'; p++) {
		if ((unsigned char)*p >= 0x80)
			*p = '?';
	}
	return json_string(plain);
}

json_t *json_of_time(uint64_t ms)
{
	char text[CLOCK_RFC3339_SIZE];

	if (ms == 0)
		return json_null();
	clock_rfc3339(ms, text);
	return json_string(text);
}

void reply_json(struct http_exchange *x, int status, const struct http_field *fields, json_t *value)
{
	auto_free char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);
	static const char failed[] = "{\"code\":500,\"message\":\"no memory for the reply\"}";

	json_decref(value);
	if (text == NULL)
		reply_bytes(x, 500, NULL, "application/json", failed, sizeof(failed) - 1);
	else
		reply_bytes(x, status, fields, "application/json", text, strlen(text));
}

json_t *json_of_error(const struct err *e)
{
	return json_pack("{s:i, s:o, s:s}", "code", err_kind_http(e->kind), "message",
			 json_of_text(e->msg), "error_code", err_kind_name(e->kind));
}

void reply_error(struct http_exchange *x, const struct err *e)
{
	reply_json(x, err_kind_http(e->kind), NULL, json_of_error(e));
}

void reply_empty(struct http_exchange *x)
{
	reply_bytes(x, 204, NULL, NULL, NULL, 0);
}
