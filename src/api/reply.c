/* SPDX-License-Identifier: Apache-2.0 */
#include "api/api-internal.h"
#include "base/str.h"

#include <stdlib.h>

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

void reply_json(struct http_exchange *x, int status, const struct http_field *fields, json_t *value)
{
	auto_free char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);
	static const char failed[] = "{\"code\":500,\"message\":\"no memory for the reply\"}";

	json_decref(value);
	if (text == NULL)
		http_reply(x, 500, NULL, "application/json", failed, sizeof(failed) - 1);
	else
		http_reply(x, status, fields, "application/json", text, strlen(text));
}

void reply_error(struct http_exchange *x, const struct err *e)
{
	int status = err_kind_http(e->kind);

	reply_json(x, status, NULL,
		   json_pack("{s:i, s:o, s:s}", "code", status, "message", json_of_text(e->msg),
			     "error_code", err_kind_name(e->kind)));
}

void reply_empty(struct http_exchange *x)
{
	http_reply(x, 204, NULL, NULL, NULL, 0);
}
