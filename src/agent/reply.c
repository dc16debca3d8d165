/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/reply.h"

#include "agent/text.h"
#include "base/str.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

static const struct http_field no_store[] = { { "Cache-Control", "no-store" }, { NULL, NULL } };

void reply_json(struct http_exchange *x, int status, json_t *value)
{
	/* 15 digits are what a double surely has: 0.1 stays 0.1. */
	auto_free char *text = json_dumps(value, JSON_COMPACT | JSON_REAL_PRECISION(15));

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
	/* It may hold a client's bytes, and the cut at its end may have split a character. */
	reply_json(x, status,
		   json_pack("{s:i, s:o}", "code", status, "message", text_json(message)));
}

void reply_empty(struct http_exchange *x, int status)
{
	http_reply(x, status, no_store, NULL, NULL, 0);
}
