/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/frozen.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/accel-internal.h"
#include "sandbox/listen.h"
#include "sandbox/sandbox-internal.h"

#include <stdlib.h>

enum { RETRY_FIRST_MS = 1000, RETRY_MOST_MS = 60000, GO_ON_TIMEOUT_MS = 10000 };
enum { ROOM_MIB = 64 }; /* is enough for some time, also where the reserve is large */
static const uint64_t CALM_NS = 60 * NS_PER_S;

static const char *const texts[] = {
	[SANDBOX_WELL] = "",
	[SANDBOX_DISK_FULL] = "the host's disk is full; it stands still until there is room again",
	[SANDBOX_DISK_FAILED] = "the host's disk cannot be used; it stands still, and tries again",
	[SANDBOX_SILENT] = "",
};
static_assert(ARRAY_SIZE(texts) == SANDBOX_CONDITION_N, "every condition has a text");

static bool is_frozen(const struct sandbox *sb)
{
	return sb->condition == SANDBOX_DISK_FULL || sb->condition == SANDBOX_DISK_FAILED;
}

static void wait_longer(struct frozen *f)
{
	uint64_t now_ns = clock_now_ns();
	bool is_calm = f->wait_ms == 0 || (f->since_ns != 0 && now_ns > f->since_ns + CALM_NS);

	f->wait_ms = is_calm ? RETRY_FIRST_MS : MIN(2 * f->wait_ms, (uint64_t)RETRY_MOST_MS);
	f->again_ns = now_ns + f->wait_ms * NS_PER_MS;
}

void frozen_note(struct sandbox *sb, enum vmm_event event)
{
	enum sandbox_condition condition =
		event == VMM_EVENT_NO_SPACE ? SANDBOX_DISK_FULL : SANDBOX_DISK_FAILED;

	/* It tells each request that failed. */
	if (sb->frozen.trying || !is_frozen(sb))
		wait_longer(&sb->frozen);
	sb->frozen.trying = false;
	if (sb->condition == condition)
		return;
	sb->condition = condition;
	log_error("sandbox.frozen", kv_str("id", sb->row.id.s), kv_str("why", texts[condition]));
	sandbox_set_state(sb, sb->row.state, texts[condition]);
}

static void note_going(struct sandbox *sb)
{
	sb->frozen.trying = false;
	sb->frozen.since_ns = clock_now_ns();
	sb->condition = SANDBOX_WELL;
	probe_soon(sb); /* its clock stood still, too */
	log_info("sandbox.goes_on", kv_str("id", sb->row.id.s));
	sandbox_set_state(sb, sb->row.state, "");
}

struct go_on {
	struct sandbox *sb;
	struct op op;
	int result;
};

static void go_on_work(void *arg)
{
	struct go_on *g = arg;

	g->result = vmm_resume(g->sb->res.vmm, &g->op);
	if (g->result == 0)
		g->result = listen_thaw(g->sb, &g->op);
}

static void go_on_done(void *arg)
{
	auto_free struct go_on *g = arg;
	struct sandbox *sb = g->sb;
	struct manager *m = sb->m;

	sandbox_end(sb);
	sb->frozen.trying = true; /* also after a failure: the VMM tells, or is gone */
	if (g->result < 0)
		log_warning("sandbox.not_told", kv_str("id", sb->row.id.s),
			    kv_str("error", g->op.err.msg));
	watch_start(sb); /* tells at once what the VMM said meanwhile */
	sandbox_idle(sb);
	manager_operation_ended(m);
}

static void go_on(struct sandbox *sb)
{
	struct go_on *g = xcalloc(1, sizeof(*g));

	g->sb = sb;
	op_init(&g->op, GO_ON_TIMEOUT_MS + accel_agent_timeout_ms(sb->m, sb->row.acceleration), -1);
	watch_stop(sb);
	sandbox_begin(sb);
	sb->goes_on = true;
	work_submit(sb->m->loop, go_on_work, go_on_done, g);
}

bool frozen_may_go_on(const struct room_disk *disk)
{
	return disk->free > 0 && disk->free >= MIN(disk->reserve, (uint64_t)ROOM_MIB);
}

/* It was told to, and does; the next tick notes it. */
static bool goes_on(const struct sandbox *sb)
{
	return sb->frozen.trying && vmm_running(sb->res.vmm);
}

/* A VMM that was told, and neither runs nor says why, is told again. */
static void look(struct sandbox *sb, const struct room_disk *disk)
{
	bool may = sb->condition == SANDBOX_DISK_FAILED || frozen_may_go_on(disk);

	if (goes_on(sb))
		note_going(sb);
	else if (may && clock_now_ns() >= sb->frozen.again_ns)
		go_on(sb);
}

void frozen_tick(struct manager *m, const struct room_disk *disk)
{
	vec_foreach (at, &m->all) {
		if (is_frozen(*at) && (*at)->watch != NULL && !(*at)->busy)
			look(*at, disk);
	}
}

int frozen_check(const struct sandbox *sb, struct err *e)
{
	if (!is_frozen(sb) || (!sb->busy && goes_on(sb)))
		return 0;
	return err_set(e, ERR_CONFLICT,
		       "sandbox %s cannot do that now: %s (viv df shows what takes room)",
		       sb->row.id.s, texts[sb->condition]);
}
