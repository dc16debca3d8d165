/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/rests.h"

#include "base/str.h"
#include "sandbox/sandbox-internal.h"

#include <stdlib.h>

/* One that waits for its turn, or has it. The sandbox may go meanwhile. */
struct resting {
	struct manager *m;
	struct sandbox_id id;
	struct rest_wish wish;
};

static void take_turns(struct manager *m);

static void over(struct resting *r, struct sandbox *sb, const struct err *e)
{
	struct manager *m = r->m;

	m->rests.under_way--;
	r->wish.done(sb, e, r->wish.arg);
	free(r);
	take_turns(m);
}

static void on_rested(struct sandbox *sb, const struct err *e, void *arg)
{
	over(arg, sb, e);
}

static void begin(struct resting *r);

static void on_idle(struct sandbox *sb, const struct err *gone, void *arg)
{
	(void)sb;
	if (gone != NULL)
		over(arg, NULL, NULL);
	else
		begin(arg);
}

static bool is_at_rest(const struct sandbox *sb)
{
	return sb->row.state == DB_PAUSED || sb->row.state == DB_STOPPED;
}

static int start(struct resting *r, struct sandbox *sb, struct err *e)
{
	int result;

	db_set_str(&sb->row.cause, r->wish.cause);
	if (!r->wish.memory)
		result = sandbox_stop(sb, on_rested, r, e);
	else if (r->wish.anyway)
		result = pause_anyway(sb, on_rested, r, e);
	else
		result = sandbox_pause(sb, on_rested, r, e);
	if (result < 0)
		db_set_str(&sb->row.cause, "");
	return result;
}

static void begin(struct resting *r)
{
	struct sandbox *sb = sandbox_by_id(r->m, &r->id);
	struct err e = { 0 };

	if (sb == NULL || sb->doomed || sb->row.state == DB_DELETING)
		over(r, NULL, NULL);
	else if (sb->busy)
		sandbox_when_idle(sb, on_idle, r);
	else if (is_at_rest(sb) || (r->wish.wanted != NULL && !r->wish.wanted(sb)))
		over(r, sb, NULL);
	else if (start(r, sb, &e) < 0)
		over(r, sb, &e);
}

static struct resting *take_first(struct restings *waiting)
{
	struct resting *first = waiting->at[0];

	waiting->n--;
	memmove(&waiting->at[0], &waiting->at[1], waiting->n * sizeof(waiting->at[0]));
	return first;
}

/* What ends at once comes here again: the outermost call serves all. */
static void take_turns(struct manager *m)
{
	struct rests *q = &m->rests;

	if (q->serving)
		return;
	q->serving = true;
	while (q->waiting.n > 0 && q->under_way < m->config.pause_parallel) {
		q->under_way++;
		begin(take_first(&q->waiting));
	}
	q->serving = false;
}

void rest_later(struct sandbox *sb, const struct rest_wish *wish)
{
	struct manager *m = sb->m;
	struct resting *r = xcalloc(1, sizeof(*r));

	*r = (struct resting){ .m = m, .id = sb->row.id, .wish = *wish };
	restings_push(&m->rests.waiting, r);
	take_turns(m);
}

void rests_close(struct manager *m)
{
	struct err e = { 0 };

	ignore_err(manager_check_open(m, &e)); /* it says why not */
	while (m->rests.waiting.n > 0) {
		struct resting *r = take_first(&m->rests.waiting);

		m->rests.under_way++; /* over() counts it off */
		over(r, sandbox_by_id(m, &r->id), &e);
	}
	restings_done(&m->rests.waiting);
}

VEC_DEFINE(rest_results, struct rest_result)

struct all {
	struct rest_results results;
	size_t n_left; /* and one while they are begun */
	rest_all_fn done;
	void *arg;
};

static void one_less(struct all *all)
{
	if (--all->n_left > 0)
		return;
	all->done(all->results.at, all->results.n, all->arg);
	vec_foreach (result, &all->results)
		free(result->name);
	rest_results_done(&all->results);
	free(all);
}

static void on_one(struct sandbox *sb, const struct err *e, void *arg)
{
	struct all *all = arg;

	if (sb != NULL)
		rest_results_push(
			&all->results,
			(struct rest_result){ .id = sb->row.id,
					      .name = str_dup(sb->row.name),
					      .error = e != NULL ? *e : (struct err){ 0 } });
	one_less(all);
}

void sandbox_rest_all(struct manager *m, bool memory, rest_all_fn done, void *arg)
{
	struct all *all = xcalloc(1, sizeof(*all));
	const struct rest_wish wish = {
		.memory = memory, .anyway = true, .cause = "", .done = on_one, .arg = all
	};

	*all = (struct all){ .n_left = 1, .done = done, .arg = arg };
	for (size_t i = 0; i < m->all.n; i++) {
		struct sandbox *sb = m->all.at[i];

		if (is_at_rest(sb) || sb->doomed || sb->row.state == DB_DELETING ||
		    sb->row.state == DB_READY)
			continue;
		all->n_left++;
		rest_later(sb, &wish);
	}
	one_less(all);
}
