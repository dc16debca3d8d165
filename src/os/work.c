/* SPDX-License-Identifier: Apache-2.0 */
#include "os/work.h"

#include "base/str.h"

#include <stdio.h>
#include <stdlib.h>

struct work {
	uv_work_t req;
	void (*work)(void *arg);
	void (*done)(void *arg);
	void *arg;
};

void work_setup(unsigned threads)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", threads);
	setenv("UV_THREADPOOL_SIZE", number, 1); /* libuv's only way to size its pool */
}

static void on_work(uv_work_t *req)
{
	struct work *w = container_of(req, struct work, req);

	w->work(w->arg);
}

static void on_done(uv_work_t *req, int status)
{
	auto_free struct work *w = container_of(req, struct work, req);

	(void)status; /* nonzero only after uv_cancel(), which nobody calls */
	w->done(w->arg);
}

void work_submit(uv_loop_t *loop, void (*work)(void *arg), void (*done)(void *arg), void *arg)
{
	struct work *w = xcalloc(1, sizeof(*w));

	w->work = work;
	w->done = done;
	w->arg = arg;
	if (uv_queue_work(loop, &w->req, on_work, on_done) != 0)
		abort(); /* refused without a function only */
}
