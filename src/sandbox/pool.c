/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps network slots ready (net/pool.c). Each start and each claim wakes the pool; then one thing
 * after the other is done for it on a worker until it is full. When that fails, creates make what
 * they need themselves, the reason is logged once, and it is tried again with back-off.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/fault.h"
#include "sandbox/sandbox-internal.h"

#include <stdlib.h>

enum { FILL_TIMEOUT_MS = 10000, RETRY_FIRST_MS = 1000, RETRY_MOST_MS = 60000 };

struct pool {
	struct manager *m; /* borrowed */
	uv_async_t wake;   /* the one handle that workers may touch */
	uv_timer_t retry;
	uint64_t retry_ms; /* the current back-off; 0 = the last filling worked */
	bool again;        /* something was taken since the filling began */
	bool filling;      /* a worker has what follows */
	struct op op;
	int result;
};

static void fill(struct pool *pool);

static void on_retry(uv_timer_t *timer)
{
	fill(timer->data);
}

static void fill_work(void *arg)
{
	struct pool *pool = arg;
	int r;

	op_init(&pool->op, FILL_TIMEOUT_MS, -1);
	r = fault_point(pool->m->config.fault, "pool", "fill", "before", &pool->op.err);
	pool->result = r < 0 ? r : net_pool_fill(pool->m->net, &pool->op);
}

static void fill_failed(struct pool *pool)
{
	if (pool->retry_ms == 0)
		log_warning("net.pool_unfilled", kv_u64("ready", net_pool_ready(pool->m->net)),
			    kv_u64("size", pool->m->config.slot_pool),
			    kv_str("error", pool->op.err.msg));
	pool->retry_ms = pool->retry_ms == 0 ? RETRY_FIRST_MS
					     : MIN(2 * pool->retry_ms, (uint64_t)RETRY_MOST_MS);
	uv_timer_start(&pool->retry, on_retry, pool->retry_ms, 0);
}

static void fill_done(void *arg)
{
	struct pool *pool = arg;
	struct manager *m = pool->m;

	pool->filling = false;
	m->n_busy--;
	if (pool->result < 0) {
		fill_failed(pool);
	} else {
		pool->retry_ms = 0;
		if (pool->result > 0 || pool->again)
			fill(pool);
	}
	manager_operation_ended(m);
}

static void fill(struct pool *pool)
{
	pool->again = pool->filling;
	if (pool->filling || pool->m->closing || uv_is_active((uv_handle_t *)&pool->retry))
		return;
	pool->filling = true;
	pool->m->n_busy++;
	work_submit(pool->m->loop, fill_work, fill_done, pool);
}

static void on_wake(uv_async_t *wake)
{
	fill(wake->data);
}

void pool_open(struct manager *m)
{
	struct pool *pool;

	if (m->config.slot_pool == 0)
		return;
	pool = xcalloc(1, sizeof(*pool));
	pool->m = m;
	pool->wake.data = pool;
	pool->retry.data = pool;
	uv_async_init(m->loop, &pool->wake, on_wake);
	uv_timer_init(m->loop, &pool->retry);
	m->pool = pool;
	pool_wake(m);
}

void pool_wake(struct manager *m)
{
	if (m->pool != NULL)
		uv_async_send(&m->pool->wake);
}

static void on_retry_closed(uv_handle_t *retry)
{
	free(retry->data);
}

static void on_wake_closed(uv_handle_t *wake)
{
	struct pool *pool = wake->data;

	uv_close((uv_handle_t *)&pool->retry, on_retry_closed);
}

void pool_close(struct manager *m)
{
	struct pool *pool = take_ptr(&m->pool);

	if (pool != NULL)
		uv_close((uv_handle_t *)&pool->wake, on_wake_closed);
}
