/* SPDX-License-Identifier: Apache-2.0 */
#include "api/host-request.h"

#include "api/access.h"
#include "base/str.h"

#include <stdlib.h>

bool host_check_local(struct http_exchange *x)
{
	if (access_is_local(x))
		return true;
	reply_json(
		x, 403, NULL,
		json_pack("{s:i, s:s, s:s}", "code", 403, "message",
			  "this host is cleaned up over vivd's unix socket only: use `viv` on it",
			  "error_code", "forbidden"));
	return false;
}

struct late_reply {
	struct http_exchange *x; /* NULL once it is closed */
};

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	struct late_reply *late = arg;

	(void)x;
	(void)complete;
	late->x = NULL;
}

struct late_reply *late_reply_new(struct http_exchange *x)
{
	static const struct http_exchange_events events = { .on_close = on_close };
	struct late_reply *late = xcalloc(1, sizeof(*late));

	late->x = x;
	http_exchange_bind(x, &events, late);
	return late;
}

struct http_exchange *late_reply_take(struct late_reply *late)
{
	static const struct http_exchange_events nothing = { 0 };
	struct http_exchange *x = late->x;

	if (x != NULL)
		http_exchange_bind(x, &nothing, NULL);
	free(late);
	return x;
}
