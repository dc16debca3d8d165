/* SPDX-License-Identifier: Apache-2.0 */
/* Reports, and the doctor within a daemon. */
#include "sandbox/doctor.h"

#include "base/log.h"
#include "os/work.h"
#include "sandbox/accel.h"
#include "sandbox/doctor-internal.h"
#include "sandbox/leaks.h"
#include "sandbox/room.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/warm.h"

#include <stdlib.h>

enum { LOOK_TIMEOUT_MS = 30000 };

const char *doctor_verdict_name(enum doctor_verdict verdict)
{
	static const char *const names[] = {
		[DOCTOR_OK] = "ok",           [DOCTOR_DEGRADED] = "degraded",
		[DOCTOR_MISSING] = "missing", [DOCTOR_LEAK] = "leak",
		[DOCTOR_FIXED] = "fixed",
	};
	static_assert(ARRAY_SIZE(names) == DOCTOR_VERDICT_N, "each verdict has a name");

	return names[verdict];
}

/* An alias or a mount's source can be any bytes; nobody's terminal is to obey them. */
static void strip_control(char *s)
{
	for (; s != NULL && *s != '\0'; s++) {
		if ((unsigned char)*s < ' ' || *s == '\x7f')
			*s = '?';
	}
}

void doctor_add(struct doctor_report *report, struct doctor_item item)
{
	char *const texts[] = { item.name, item.what, item.why, item.advice };
	struct doctor_items *items = &report->items;
	size_t at;

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		strip_control(texts[i]);
	doctor_items_push(items, item);
	/* Behind the last one of its area. */
	for (at = items->n - 1; at > 0 && !streq(items->at[at - 1].area, item.area); at--)
		;
	if (at > 0) {
		memmove(&items->at[at + 1], &items->at[at],
			(items->n - 1 - at) * sizeof(items->at[0]));
		items->at[at] = item;
	}
}

void doctor_report_done(struct doctor_report *report)
{
	vec_foreach (item, &report->items) {
		free(item->name);
		free(item->what);
		free(item->why);
		free(item->advice);
	}
	doctor_items_done(&report->items);
}

enum doctor_verdict doctor_report_verdict(const struct doctor_report *report)
{
	static const enum doctor_verdict gravity[] = { DOCTOR_MISSING, DOCTOR_LEAK,
						       DOCTOR_DEGRADED };

	for (size_t i = 0; i < ARRAY_SIZE(gravity); i++) {
		vec_foreach (item, &report->items) {
			if (item->verdict == gravity[i])
				return gravity[i];
		}
	}
	return DOCTOR_OK;
}

int doctor_report_code(const struct doctor_report *report)
{
	switch (doctor_report_verdict(report)) {
	case DOCTOR_MISSING:
		return 1;
	case DOCTOR_LEAK:
		return 3;
	case DOCTOR_OK:
	case DOCTOR_DEGRADED:
	case DOCTOR_FIXED:
	case DOCTOR_VERDICT_N:
		break;
	}
	return 0;
}

/* A doctor's visit to a daemon: two rounds on a worker, each followed by a turn on the loop. */
struct visit {
	struct manager *m;
	struct doctor_request request;
	void (*done)(const struct doctor_report *report, void *arg);
	void *arg;
	struct instance_view view;
	struct accel_verdict acceleration;
	struct op op;
	int result; /* of the look */
	struct intents before;
	struct intents after;
	struct things leaks;
	struct doctor_report report;
	struct room_memory memory;
};

static void read_intents(struct manager *m, struct intents *out)
{
	vec_foreach (at, &m->all) {
		const struct sandbox *sb = *at;
		struct intent i = { .id = sb->row.id,
				    .state = sb->row.state,
				    .busy = sb->busy,
				    .leaked = sb->row.leaked,
				    .unsure = sb->unsure,
				    .kept = sb->member != NULL };

		str_copy(i.name, sizeof(i.name), sb->row.name);
		intents_push(out, i);
	}
}

static void visit_end(struct visit *v)
{
	struct manager *m = v->m;

	if (v->result < 0)
		doctor_add(&v->report, (struct doctor_item){ .area = "leaks",
							     .verdict = DOCTOR_DEGRADED,
							     .name = str_dup("look"),
							     .what = str_dup(v->op.err.msg) });
	else
		leaks_report(&v->leaks, &v->report);
	v->done(&v->report, v->arg);
	doctor_report_done(&v->report);
	things_free(&v->leaks);
	intents_done(&v->before);
	intents_done(&v->after);
	free(v);
	m->n_busy--;
	manager_operation_ended(m);
}

static void second_work(void *arg)
{
	struct visit *v = arg;

	op_init(&v->op, LOOK_TIMEOUT_MS, -1);
	v->result = leaks_confirm(&v->view, &v->after, false, &v->leaks, &v->op);
	if (v->result < 0 || !v->request.fix || v->leaks.n == 0)
		return;
	leaks_fix(&v->view, v->request.delete_data, &v->leaks);
	op_init(&v->op, LOOK_TIMEOUT_MS, -1);
	v->result = leaks_confirm(&v->view, &v->after, true, &v->leaks, &v->op);
}

static void second_done(void *arg)
{
	visit_end(arg);
}

/* What a probe of the acceleration, or the making of an image, has is not in any row. */
static void keep_probe(struct visit *v)
{
	for (size_t i = v->leaks.n; i-- > 0;) {
		if (accel_owns(v->m, &v->leaks.at[i].id) || warm_owns(v->m, &v->leaks.at[i].id))
			things_drop(&v->leaks, i);
	}
}

static void first_work(void *arg)
{
	struct visit *v = arg;
	struct doctor_host host = {
		.config = &v->m->config,
		.tag = v->m->tag,
		.acceleration = v->acceleration.decided ? v->acceleration.name : NULL,
		.acceleration_why = v->acceleration.why,
		.memory = &v->memory,
	};

	doctor_check_host(&host, &v->report);
	op_init(&v->op, LOOK_TIMEOUT_MS, -1);
	v->result = leaks_look(&v->view, &v->before, &v->leaks, &v->op);
}

static void first_done(void *arg)
{
	struct visit *v = arg;

	if (v->result < 0) {
		visit_end(v);
		return;
	}
	read_intents(v->m, &v->after);
	intents_report(&v->before, &v->after, &v->leaks, &v->report);
	leaks_keep(&v->view, &v->before, &v->leaks);
	leaks_keep(&v->view, &v->after, &v->leaks);
	keep_probe(v);
	if (v->leaks.n == 0)
		visit_end(v);
	else
		work_submit(v->m->loop, second_work, second_done, v);
}

int doctor_start(struct manager *m, const struct doctor_request *request,
		 void (*done)(const struct doctor_report *report, void *arg), void *arg,
		 struct err *e)
{
	struct visit *v;
	int r = manager_check_open(m, e);

	if (r < 0)
		return r;
	v = xcalloc(1, sizeof(*v));
	*v = (struct visit){ .m = m,
			     .request = *request,
			     .done = done,
			     .arg = arg,
			     .acceleration = *manager_acceleration(m),
			     .view = { .tag = m->tag,
				       .state_dir = m->config.state_dir,
				       .run_dir = m->config.run_dir,
				       .net = m->net,
				       .cgroup_fd = m->cgroup_fd,
				       .run_fd = m->run_fd,
				       .sandboxes_fd = m->sandboxes_fd,
				       .served = true } };
	room_memory(m, &v->memory);
	read_intents(m, &v->before);
	m->n_busy++;
	work_submit(m->loop, first_work, first_done, v);
	return 0;
}
