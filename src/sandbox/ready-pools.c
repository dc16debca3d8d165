/* SPDX-License-Identifier: Apache-2.0 */
/* Which templates have pools: what is wished for, and what is told of it. */
#include "sandbox/ready-internal.h"

#include "base/log.h"
#include "base/str.h"
#include "base/tree.h"
#include "sandbox/warm-internal.h"

enum { HOST_SHARE = 4 }; /* of the host's memory, if nothing else is configured: a quarter */

struct tended *ready_pool(const struct ready *rd, const char *template_name)
{
	vec_foreach (pool, &rd->pools) {
		if (streq(pool->wish.template_name, template_name))
			return pool;
	}
	return NULL;
}

uint64_t ready_memory_bound(const struct manager *m)
{
	return m->config.pool_memory_mib != 0 ? m->config.pool_memory_mib
					      : m->host_memory_mib / HOST_SHARE;
}

static void remove_pool(struct ready *rd, struct tended *pool)
{
	size_t at = (size_t)(pool - rd->pools.at);

	ready_end_members(rd->m, pool);
	rd->pools.n--;
	memmove(pool, pool + 1, (rd->pools.n - at) * sizeof(*pool));
}

static int unset(struct manager *m, const char *template_name, struct err *e)
{
	struct tended *pool = ready_pool(m->ready, template_name);
	int r = db_pool_delete(m->db, template_name, e);

	if (r == 0 && pool != NULL)
		remove_pool(m->ready, pool);
	return r;
}

void ready_forget(struct manager *m, const char *template_name)
{
	struct err e = { 0 };

	if (unset(m, template_name, &e) < 0)
		log_error("store.write_failed", kv_str("template", template_name),
			  kv_str("error", e.msg));
}

/* What all pools but one may take when they are full; of sizes that are the default: that. */
static uint64_t memory_of_others(const struct manager *m, const char *template_name)
{
	uint64_t sum_mib = 0;

	vec_foreach (pool, &m->ready->pools) {
		const struct db_pool *wish = &pool->wish;

		if (!streq(wish->template_name, template_name))
			sum_mib +=
				wish->size * (wish->memory_mib != 0 ? wish->memory_mib
								    : m->config.default_memory_mib);
	}
	return sum_mib;
}

static int check_pool(struct manager *m, const struct db_pool *wish, struct err *e)
{
	struct ready_present p = { .image_fd = -1 };
	uint64_t wanted_mib;
	int r = warm_check(m, e);

	if (r == 0)
		r = ready_look(m, wish, &p, e);
	wanted_mib = wish->size * p.spec.memory_mib + memory_of_others(m, wish->template_name);
	ready_present_done(&p);
	if (r < 0)
		return r;
	if (wish->size > POOL_SIZE_MAX)
		return err_set(e, ERR_INVALID, "a pool has at most %d sandboxes", POOL_SIZE_MAX);
	if (ready_pool(m->ready, wish->template_name) == NULL &&
	    m->ready->pools.n >= READY_POOLS_MAX)
		return err_set(e, ERR_LIMITED, "%d templates have pools already", READY_POOLS_MAX);
	if (wanted_mib > ready_memory_bound(m))
		return err_set(e, ERR_INVALID,
			       "all pools would have %llu MiB of memory, which is more than the "
			       "%llu MiB that they may have (setting pool_memory)",
			       (unsigned long long)wanted_mib,
			       (unsigned long long)ready_memory_bound(m));
	return 0;
}

int ready_set(struct manager *m, const struct db_pool *wish, struct err *e)
{
	struct tended *pool;
	int r = wish->size == 0 ? unset(m, wish->template_name, e) : check_pool(m, wish, e);

	if (r < 0 || wish->size == 0)
		return r;
	r = db_pool_set(m->db, wish, e);
	if (r < 0)
		return r;
	pool = ready_pool(m->ready, wish->template_name);
	if (pool != NULL)
		*pool = (struct tended){ .wish = *wish };
	else
		tended_list_push(&m->ready->pools, (struct tended){ .wish = *wish });
	ready_watch_templates(m->ready);
	if (m->n_busy == 0)
		ready_idle(m);
	return 0;
}

static void add_usage(const struct sandbox *sb, struct ready_view *view)
{
	auto_free char *path = str_printf("%s/sandboxes/%s", sb->m->config.state_dir, sb->row.id.s);
	struct proc_usage usage = { .anon_bytes = 0 };
	uint64_t bytes = 0;

	view->ready++;
	if (proc_meter_read(&sb->member->meter, &usage) == 0)
		view->memory_bytes += usage.anon_bytes;
	if (tree_own(path, &bytes) == 0)
		view->disk_bytes += bytes;
}

bool ready_view(const struct manager *m, const char *template_name, struct ready_view *out)
{
	const struct tended *pool = ready_pool(m->ready, template_name);

	if (pool == NULL)
		return false;
	*out = (struct ready_view){ .wish = pool->wish, .again_ms = pool->again_ms };
	str_copy(out->error, sizeof(out->error), pool->error);
	vec_foreach (at, &m->all) {
		if ((*at)->member != NULL && ready_is_of(*at, pool))
			add_usage(*at, out);
	}
	return true;
}

size_t ready_count(const struct manager *m)
{
	size_t n = 0;

	vec_foreach (at, &m->all)
		n += (*at)->member != NULL;
	return n;
}
