/* SPDX-License-Identifier: Apache-2.0 */
/* Removing what nothing uses (usage.h). */
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/usage-internal.h"

#include <stdlib.h>

enum { QUIET_MS = 500 };

/* prune under way: a worker looks, the loop takes away, a worker deletes. */
struct pruning {
	struct manager *m;
	bool dry_run;
	bool at_start; /* by itself: all but templates: what is of an earlier version, or a dead
			* build's */
	struct survey survey;
	struct op op;
	int result;
	struct prune_items items; /* of the same places as in the survey's cache */
	void (*done)(const struct prune_items *items, const struct err *e, void *arg);
	void *arg;
};

static void pruning_end(struct pruning *p)
{
	struct manager *m = p->m;

	if (p->result == 0)
		p->done(&p->items, NULL, p->arg);
	else
		p->done(NULL, &p->op.err, p->arg);
	vec_foreach (item, &p->items) {
		free(item->name);
		free(item->why);
	}
	prune_items_done(&p->items);
	survey_done(&p->survey);
	free(p);
	m->n_busy--;
	manager_operation_ended(m);
}

static void look_work(void *arg)
{
	struct pruning *p = arg;

	op_init(&p->op, 0, -1);
	p->result = survey_run(&p->survey, p->m->config.agent_path, &p->op);
}

static void set_failed(struct prune_item *item, const struct err *e)
{
	log_error("prune.failed", kv_str("name", item->name), kv_str("error", e->msg));
	item->outcome = PRUNE_FAILED;
	item->why = str_dup(e->msg);
}

static bool wanted(const struct pruning *p, enum cache_kind kind)
{
	return !p->at_start || kind != CACHE_TEMPLATE;
}

static void take_away(struct pruning *p, struct cache_item *cached)
{
	struct prune_item item = { .kind = cached->kind,
				   .name = str_dup(cached->name),
				   .bytes = cached->bytes };
	struct err e = { 0 };
	int r = 0;

	if (!wanted(p, cached->kind))
		cache_need(cached, "a start removes no templates");
	if (!p->dry_run && cached->needed == NULL)
		r = cache_discard(p->survey.usage.state_dir, cached, &e);
	if (r < 0) {
		set_failed(&item, &e);
	} else if (cached->needed != NULL) {
		item.outcome = PRUNE_KEPT;
		item.why = str_dup(cached->needed);
	}
	prune_items_push(&p->items, item);
}

static void delete_work(void *arg)
{
	struct pruning *p = arg;

	for (size_t i = 0; i < p->items.n; i++) {
		struct err e = { 0 };

		/* What it leaves is a dead build's, for the next time. */
		if (p->items.at[i].outcome == PRUNE_REMOVED &&
		    cache_delete(p->survey.usage.state_dir, &p->survey.usage.cache.at[i], &e) < 0)
			set_failed(&p->items.at[i], &e);
	}
}

static void delete_done(void *arg)
{
	pruning_end(arg);
}

static void look_done(void *arg)
{
	struct pruning *p = arg;

	if (p->result < 0) {
		pruning_end(p);
		return;
	}
	survey_judge(&p->survey, p->m);
	vec_foreach (cached, &p->survey.usage.cache)
		take_away(p, cached);
	if (p->dry_run)
		pruning_end(p);
	else
		work_submit(p->m->loop, delete_work, delete_done, p);
}

static void start(const struct pruning *spec)
{
	struct pruning *p = xcalloc(1, sizeof(*p));

	*p = *spec;
	survey_init(&p->survey, p->m);
	p->m->n_busy++;
	work_submit(p->m->loop, look_work, look_done, p);
}

int prune_start(struct manager *m, bool dry_run,
		void (*done)(const struct prune_items *items, const struct err *e, void *arg),
		void *arg, struct err *e)
{
	int r = manager_check_open(m, e);

	if (r == 0)
		start(&(struct pruning){ .m = m, .dry_run = dry_run, .done = done, .arg = arg });
	return r;
}

static void log_pruned(const struct prune_items *items, const struct err *e, void *arg)
{
	(void)arg;
	if (e != NULL) {
		log_warning("prune.failed", kv_str("error", e->msg));
		return;
	}
	vec_foreach (item, items) {
		if (item->outcome == PRUNE_REMOVED)
			log_info("prune.removed", kv_str("kind", cache_kind_name(item->kind)),
				 kv_str("name", item->name), kv_u64("bytes", item->bytes));
	}
}

static void prune_old(struct manager *m)
{
	start(&(struct pruning){ .m = m, .at_start = true, .done = log_pruned });
}

/*
 * A kernel that comes while vivd runs makes others old. It appears by a rename in kernels/, of
 * which the host tells; what is old goes when nothing else has been under way for a moment.
 */
struct kernels_watch {
	struct manager *m; /* borrowed */
	uv_fs_event_t changes;
	uv_timer_t quiet;
	bool due;        /* there was one since */
	unsigned n_open; /* of the handles; the last that closes frees this */
};

static void on_quiet(uv_timer_t *timer)
{
	struct kernels_watch *w = timer->data;

	if (w->m->n_busy > 0) /* kernels_idle() will be called */
		return;
	w->due = false;
	prune_old(w->m);
}

void kernels_idle(struct manager *m)
{
	if (m->kernels_watch != NULL && m->kernels_watch->due)
		uv_timer_start(&m->kernels_watch->quiet, on_quiet, QUIET_MS, 0);
}

static void on_change(uv_fs_event_t *changes, const char *name, int events, int status)
{
	struct kernels_watch *w = changes->data;

	(void)events;
	if (status < 0 || (name != NULL && name[0] == '.')) /* a build's own, or what we discard */
		return;
	w->due = true;
	kernels_idle(w->m);
}

void prune_at_start(struct manager *m)
{
	auto_free char *path = str_printf("%s/kernels", m->config.state_dir);
	struct kernels_watch *w;
	int r;

	if (m->closing)
		return;
	prune_old(m);
	w = xcalloc(1, sizeof(*w));
	w->m = m;
	w->n_open = 2;
	w->changes.data = w->quiet.data = w;
	uv_timer_init(m->loop, &w->quiet);
	uv_fs_event_init(m->loop, &w->changes);
	r = uv_fs_event_start(&w->changes, on_change, path, 0);
	if (r < 0) /* none was prepared yet: so none gets old before the next start */
		log_debug("kernels.not_watched", kv_str("error", uv_strerror(r)));
	m->kernels_watch = w;
}

static void on_handle_closed(uv_handle_t *handle)
{
	struct kernels_watch *w = handle->data;

	if (--w->n_open == 0)
		free(w);
}

void kernels_close(struct manager *m)
{
	struct kernels_watch *w = take_ptr(&m->kernels_watch);

	if (w == NULL)
		return;
	uv_close((uv_handle_t *)&w->changes, on_handle_closed);
	uv_close((uv_handle_t *)&w->quiet, on_handle_closed);
}
