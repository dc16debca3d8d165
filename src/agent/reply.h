/* SPDX-License-Identifier: Apache-2.0 */
/* Whole JSON replies of the plain HTTP services. */
#pragma once

#include "http/server.h"

#include <jansson.h>

/** reply_json() - answer with a JSON value, whose reference is taken over */
void reply_json(struct http_exchange *x, int status, json_t *value);

/** reply_error() - answer with {"code": status, "message": …} */
void reply_error(struct http_exchange *x, int status, const char *fmt, ...) printf_like(3, 4);

/** reply_empty() - answer with a status that has no body (204) */
void reply_empty(struct http_exchange *x, int status);
