/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reply.h"

#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct http_field no_store[] = { { "Cache-Control", "no-store" }, { NULL, NULL } };

void reply_json(struct http_exchange *x, int status, json_t *value)
{
	auto_free char *text = json_dumps(value, JSON_COMPACT);

	json_decref(value);
	if (text == NULL)
		http_reply(x, 500, no_store, "text/plain", "out of memory\n",
			   strlen("out of memory\n"));
	else
		http_reply(x, status, no_store, "application/json", text, strlen(text));
}

void reply_error(struct http_exchange *x, int status, const char *fmt, ...)
{
	char message[512];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	reply_json(x, status, json_pack("{s:i, s:s}", "code", status, "message", message));
}

void reply_empty(struct http_exchange *x, int status)
{
	http_reply(x, status, no_store, NULL, NULL, 0);
}
