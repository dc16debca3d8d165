/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeping sandboxes ready.
 *
 * Theory of operation. A template's pool is a row of the store; how many sandboxes wait in it is
 * only true now. One that waits is a sandbox in the table with the state DB_READY, so it has a row,
 * and names on the host that derive from its id, like any other: what fails, leaks or is killed is
 * released by the same functions. A daemon that finds such a row unwinds it, as it does one that
 * was being created; one that ends takes those that wait with it.
 *
 * When no operation has been under way for a moment, and when others have built a template, each
 * pool is looked at. Sandboxes that are not what a create would make now (the template has another
 * disk, image or start command by now, or is gone; kernel, agent or VMM are newer; the pool has
 * other sizes) go. Then one that is missing is made, on a worker; its end is the next such moment.
 * A create ends the making that is under way: nobody ever waits behind it. A template that has no
 * image gets one first (warm.c).
 *
 * A create looks for the image that it would restore, as without a pool, and claims a sandbox only
 * if that was made of this very image, with these very sizes: so a pool can be late, but never
 * wrong. Claims are made on the loop thread, each by one commit of the row.
 *
 * The VMM of one that waits is watched: if it ends, what is left of it goes, and another is made.
 * That, and what cannot be made, is told once; tries are further and further apart.
 */
#include "sandbox/ready-internal.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/room-internal.h"
#include "sandbox/steps.h"
#include "sandbox/warm-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

enum { QUIET_MS = 100, RETRY_FIRST_MS = MS_PER_S, RETRY_MOST_MS = 600 * MS_PER_S };
static const uint64_t CALM_NS = 60 * NS_PER_S;

struct ready_making {
	struct sandbox *sb;
	struct op op;
	struct plan_timing timing;
	int result;
	unsigned leaks;
};

void ready_present_done(struct ready_present *p)
{
	db_sandbox_done(&p->spec);
	fd_close(&p->image_fd);
}

void ready_back_off(struct ready *rd, struct tended *pool, const char *event, const struct err *why)
{
	uint64_t now_ns = clock_now_ns();
	bool is_first = pool->retry_ms == 0 || now_ns > pool->not_before_ns + CALM_NS;

	pool->retry_ms =
		is_first ? RETRY_FIRST_MS : MIN(2 * pool->retry_ms, (uint64_t)RETRY_MOST_MS);
	pool->not_before_ns = now_ns + pool->retry_ms * NS_PER_MS;
	pool->again_ms = clock_realtime_ms() + pool->retry_ms;
	str_copy(pool->error, sizeof(pool->error), why->msg);
	if (is_first && !rd->m->closing)
		log_warning(event, kv_str("template", pool->wish.template_name),
			    kv_str("error", why->msg));
}

static void make_work(void *arg)
{
	struct ready_making *mk = arg;

	mk->result = plan_run(&ready_plan, mk->sb, &mk->op, &mk->timing, &mk->leaks);
	fd_close(&mk->sb->res.origin_fd);
	durable_end(&mk->sb->res);
}

static void note_result(struct ready *rd, const struct ready_making *mk, const char *template_name)
{
	struct tended *pool = ready_pool(rd, template_name);

	if (pool == NULL || mk->op.err.kind == ERR_CANCELLED)
		return;
	if (mk->result < 0) {
		ready_back_off(rd, pool, "ready.unfilled", &mk->op.err);
		return;
	}
	log_info("ready.made", kv_str("template", template_name),
		 kv_u64("ms", mk->timing.total_ns / NS_PER_MS));
	pool->error[0] = '\0';
	pool->again_ms = 0;
}

static void make_done(void *arg)
{
	auto_free struct ready_making *mk = arg;
	struct sandbox *sb = mk->sb;
	struct manager *m = sb->m;
	auto_free char *template_name = str_dup(sb->row.template_name);
	bool whole = mk->result == 0;

	m->ready->making = NULL;
	sandbox_end(sb);
	if (whole && !m->closing)
		mk->result = ready_keep(sb);
	if (whole && mk->result < 0)
		err_errno(&mk->op.err, -mk->result, "watch the VMM of %s", sb->row.id.s);
	note_result(m->ready, mk, template_name);
	if (!whole)
		sandbox_drop(sb, mk->leaks);
	else if (sb->member == NULL)
		sandbox_start_destroy(sb);
	manager_operation_ended(m);
}

int ready_look(struct manager *m, const struct db_pool *wish, struct ready_present *out,
	       struct err *e)
{
	struct db_sandbox *spec = &out->spec;
	int r;

	db_sandbox_init(spec);
	db_set_str(&spec->template_name, wish->template_name);
	spec->cpus = wish->cpus;
	spec->memory_mib = wish->memory_mib;
	spec->disk_mib = wish->disk_mib;
	r = spec_complete(m, spec, &out->t, e);
	if (r < 0)
		return r;
	out->image_fd = warm_find(m, &out->t, warm_wish_of(spec), &out->image);
	return out->image_fd >= 0;
}

static int begin(struct manager *m, struct ready_present *p, struct err *e)
{
	auto_close int cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	uint64_t disk_mib = p->spec.disk_mib;
	struct ready_making *mk;
	int r;

	if (cancel_fd < 0)
		return err_errno(e, errno, "make an eventfd");
	spec_take_sizes(&p->spec, &p->image);
	p->spec.disk_mib = disk_mib;
	r = sandbox_reserve(m, &p->spec, DB_READY, e);
	if (r < 0)
		return r;
	mk = xcalloc(1, sizeof(*mk));
	mk->sb = sandbox_new(m, &p->spec);
	mk->sb->cancel_fd = take_fd(&cancel_fd);
	mk->sb->res.template = p->t;
	sandbox_set_origin(mk->sb, take_fd(&p->image_fd), &p->image);
	op_init(&mk->op, 0, mk->sb->cancel_fd);
	mk->op.fault = m->config.fault;
	m->ready->making = mk;
	sandbox_begin(mk->sb);
	work_submit(m->loop, make_work, make_done, mk);
	return 0;
}

static int check_bound(const struct manager *m, uint64_t memory_mib, struct err *e)
{
	uint64_t sum_mib = memory_mib;

	vec_foreach (at, &m->all)
		sum_mib += (*at)->row.state == DB_READY ? (*at)->row.memory_mib : 0;
	if (sum_mib <= ready_memory_bound(m))
		return 0;
	return err_set(e, ERR_EXHAUSTED,
		       "one more of %llu MiB is more than the %llu MiB that all pools may have "
		       "(setting pool_memory)",
		       (unsigned long long)memory_mib, (unsigned long long)ready_memory_bound(m));
}

/* Also one that is being made, or whose end is not complete. */
static unsigned count(const struct manager *m, const struct tended *pool)
{
	unsigned n = 0;

	vec_foreach (at, &m->all)
		n += ready_is_of(*at, pool);
	return n;
}

/* Ends those that a create would not claim now; @p: what it would make, NULL = nothing; and those
 * that are too many. */
static void drop_old(struct manager *m, const struct tended *pool, const struct ready_present *p)
{
	unsigned kept = 0;

	for (size_t i = m->all.n; i-- > 0;) {
		struct sandbox *sb = m->all.at[i];

		if (!ready_is_of(sb, pool) || sb->member == NULL)
			continue;
		if (p == NULL || kept == pool->wish.size ||
		    !ready_is_made_of(sb, &p->t, &p->image, p->spec.disk_mib))
			sandbox_start_destroy(sb);
		else
			kept++;
	}
}

/* Has one made that is missing. */
static void fill(struct ready *rd, struct tended *pool, struct ready_present *p)
{
	const struct room_wish room = { .vms = 1, .memory_mib = p->image.memory_mib, .disk = true };
	struct manager *m = rd->m;
	struct err e = { 0 };
	int r;

	if (m->n_busy > 0 || count(m, pool) >= pool->wish.size ||
	    clock_now_ns() < pool->not_before_ns)
		return;
	r = check_bound(m, p->image.memory_mib, &e);
	if (r == 0)
		r = room_check(m, &room, &e);
	if (r == 0)
		r = begin(m, p, &e);
	if (r < 0)
		ready_back_off(rd, pool, "ready.unfilled", &e);
}

static void tend(struct ready *rd, struct tended *pool)
{
	cleanup(ready_present_done) struct ready_present p = { .image_fd = -1 };
	struct err e = { 0 };
	int r = ready_look(rd->m, &pool->wish, &p, &e);

	drop_old(rd->m, pool, r > 0 ? &p : NULL);
	if (r > 0) {
		fill(rd, pool, &p);
	} else if (r == 0) {
		warm_want(rd->m, &p.spec);
		warm_idle(rd->m);
	} else if (clock_now_ns() >= pool->not_before_ns) {
		ready_back_off(rd, pool, "ready.unfilled", &e);
	}
}

static void on_quiet(uv_timer_t *timer);

/* Looks again when the first that failed is to be tried again; else the end of an operation is when
 * something may have changed. */
static void wait_for_retry(struct ready *rd)
{
	uint64_t now_ns = clock_now_ns();
	uint64_t first_ns = UINT64_MAX;

	vec_foreach (pool, &rd->pools) {
		if (pool->not_before_ns > now_ns)
			first_ns = MIN(first_ns, pool->not_before_ns);
	}
	if (first_ns != UINT64_MAX)
		uv_timer_start(&rd->quiet, on_quiet, (first_ns - now_ns) / NS_PER_MS + 1, 0);
}

static void on_quiet(uv_timer_t *timer)
{
	struct ready *rd = timer->data;

	if (rd->m->n_busy > 0 || rd->m->closing)
		return; /* the end of that is the next time */
	vec_foreach (pool, &rd->pools)
		tend(rd, pool);
	if (rd->m->n_busy == 0)
		wait_for_retry(rd);
}

void ready_idle(struct manager *m)
{
	if (m->ready != NULL && m->ready->pools.n > 0 && !m->closing)
		uv_timer_start(&m->ready->quiet, on_quiet, QUIET_MS, 0);
}

void ready_yield(struct manager *m)
{
	if (m->ready != NULL && m->ready->making != NULL)
		ignore_err(eventfd_write(m->ready->making->sb->cancel_fd, 1)); /* as for a create */
}

static void on_templates(uv_fs_event_t *templates, const char *name, int events, int status)
{
	struct ready *rd = templates->data;

	(void)name;
	(void)events;
	(void)status;
	ready_idle(rd->m);
}

void ready_watch_templates(struct ready *rd)
{
	auto_free char *path = str_printf("%s/templates", rd->m->config.state_dir);

	if (rd->pools.n > 0 && !uv_is_active((uv_handle_t *)&rd->templates))
		ignore_err(uv_fs_event_start(&rd->templates, on_templates, path, 0));
}

static int load_pool(const struct db_pool *pool, void *arg)
{
	struct ready *rd = arg;

	tended_list_push(&rd->pools, (struct tended){ .wish = *pool });
	return 0;
}

int ready_open(struct manager *m, struct err *e)
{
	struct ready *rd = xcalloc(1, sizeof(*rd));
	int r = db_pool_each(m->db, load_pool, rd, e);

	if (r < 0) {
		tended_list_done(&rd->pools);
		free(rd);
		return r;
	}
	rd->m = m;
	rd->quiet.data = rd;
	rd->templates.data = rd;
	uv_timer_init(m->loop, &rd->quiet);
	uv_fs_event_init(m->loop, &rd->templates);
	ready_watch_templates(rd);
	m->ready = rd;
	return 0;
}

void ready_end(struct manager *m)
{
	ready_yield(m);
	ready_end_members(m, NULL);
}

static void on_templates_closed(uv_handle_t *templates)
{
	struct ready *rd = templates->data;

	tended_list_done(&rd->pools);
	free(rd);
}

static void on_quiet_closed(uv_handle_t *quiet)
{
	struct ready *rd = quiet->data;

	uv_close((uv_handle_t *)&rd->templates, on_templates_closed);
}

void ready_close(struct manager *m)
{
	struct ready *rd = take_ptr(&m->ready);

	if (rd != NULL)
		uv_close((uv_handle_t *)&rd->quiet, on_quiet_closed);
}
