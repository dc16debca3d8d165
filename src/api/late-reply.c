/* SPDX-License-Identifier: Apache-2.0 */
#include "api/late-reply.h"
#include "api/api-internal.h"
#include "base/str.h"

#include <stdlib.h>

struct late_reply {
	struct http_exchange *x;    /* NULL once it is closed */
	void (*on_gone)(void *arg); /* NULL = nobody asks */
	void *arg;
	const struct api *api; /* borrowed; NULL = nobody needs it */
};

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	struct late_reply *late = arg;

	(void)x;
	(void)complete;
	late->x = NULL;
	if (late->on_gone != NULL)
		late->on_gone(late->arg);
}

struct late_reply *late_reply_new(struct http_exchange *x)
{
	static const struct http_exchange_events events = { .on_close = on_close };
	struct late_reply *late = xcalloc(1, sizeof(*late));

	late->x = x;
	http_exchange_bind(x, &events, late);
	return late;
}

struct late_reply *late_reply_for(struct http_exchange *x, const struct api *api)
{
	struct late_reply *late = late_reply_new(x);

	late->api = api;
	return late;
}

const struct api *late_reply_api(const struct late_reply *late)
{
	return late->api;
}

void late_reply_on_gone(struct late_reply *late, void (*fn)(void *arg), void *arg)
{
	late->on_gone = fn;
	late->arg = arg;
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

void late_reply_end(struct late_reply *late, const struct err *e)
{
	struct http_exchange *x = late_reply_take(late);

	if (x == NULL)
		return;
	if (e != NULL)
		reply_error(x, e);
	else
		reply_empty(x);
}
