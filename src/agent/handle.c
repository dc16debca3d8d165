/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/handle.h"

#include "base/str.h"

#include <stdlib.h>

static void free_handle(uv_handle_t *handle)
{
	free(handle);
}

uv_timer_t *handle_timer_new(uv_loop_t *loop, void *data)
{
	uv_timer_t *t = xcalloc(1, sizeof(*t));

	ignore_err(uv_timer_init(loop, t)); /* cannot fail */
	t->data = data;
	return t;
}

void handle_timer_free(uv_timer_t **t)
{
	if (*t != NULL)
		uv_close((uv_handle_t *)*t, free_handle);
	*t = NULL;
}

int handle_poll_new(uv_loop_t *loop, int fd, void *data, uv_poll_t **out)
{
	uv_poll_t *p = xcalloc(1, sizeof(*p));
	int r = uv_poll_init(loop, p, fd);

	if (r < 0) {
		free(p); /* libuv does not know a handle whose init failed */
		return r;
	}
	p->data = data;
	*out = p;
	return 0;
}

void handle_poll_free(uv_poll_t **p)
{
	if (*p != NULL)
		uv_close((uv_handle_t *)*p, free_handle);
	*p = NULL;
}
