/* SPDX-License-Identifier: Apache-2.0 */
/* What E2B has and we have not yet: refused by name with 501, never as if it did not exist. */
#include "api/api-internal.h"
#include "base/str.h"

void api_absent(struct http_exchange *x, const struct route_params *p, void *arg)
{
	const struct http_head *head = http_exchange_head(x);
	struct err e = { 0 };

	(void)p;
	(void)arg;
	err_set(&e, ERR_UNSUPPORTED, "%s %s is not supported by this version of vivd", head->method,
		head->path);
	reply_error(x, &e);
}
