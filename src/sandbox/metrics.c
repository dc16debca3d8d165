/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. One timer of the manager ticks in the middle of each second as long as a VM
 * is watched. Each tick asks the kernel what the VMM uses, which costs the guest nothing.
 *
 * What only the guest knows, its agent is asked for, at most every 5 s, when a client wants to see
 * it or when the guest did something since it told last: used more of a CPU in a second than idling
 * takes. An idle guest is left alone. What answering takes must not look like work, or no guest
 * would ever be idle again: in a second in which it was asked more is needed to count as work.
 *
 * A meter lives as long as its sandbox, and is started and stopped with the watch of the VM.
 */
#include "guest/metrics.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/guestwords.h"
#include "base/log.h"
#include "base/str.h"
#include "http/fetch.h"
#include "os/proc.h"
#include "sandbox/metrics-internal.h"
#include "sandbox/room-internal.h"
#include "sandbox/sandbox-internal.h"

#include <errno.h>
#include <stdlib.h>

enum {
	TICK_MS = 1000,
	GUEST_EVERY_MS = 5000,
	GUEST_TIMEOUT_MS = 3000,
	GUEST_BACKOFF_MOST_MS = 60000,
	WORK_PERMILLE = 50,        /* of one CPU, over a second: more is no idling */
	WORK_ASKED_PERMILLE = 400, /* while the agent answered */
	MIB = 1024 * 1024,
};

struct ask_waiter {
	void (*done)(void *arg);
	void *arg;
};
VEC_DEFINE(ask_waiters, struct ask_waiter)

/* What is saved. */
struct history {
	char magic[8];
	struct guest_metrics guest; /* as told last */
	uint64_t guest_ms;          /* when; 0 = never */
	uint64_t cpu_ns;            /* of all its VMs */
	int64_t pid;                /* of the last VM */
	uint64_t vm_cpu_ns;         /* of that, when it was seen last */
	struct series series;
};

static const char history_magic[8] = "vivmet1";

struct meter {
	struct history h;
	bool running;
	struct proc_meter proc;
	uint64_t seen_ns;    /* when the VM was looked at last */
	uint64_t anon_bytes; /* as seen last */
	unsigned cpu;        /* as in a sample */
	bool worked;         /* since the guest told last */
	uint64_t worked_ns;  /* when it did last, CLOCK_MONOTONIC */
	bool asked;          /* the agent answered, or was asked, since the last tick */
	uint64_t ask_next_ns;
	uint64_t backoff_ms; /* 0 = it answered */
	uint64_t requests;
	struct http_fetch *fetch; /* NULL = none is under way */
	struct ask_waiters waiters;
};

struct sampler {
	uv_timer_t timer;
	struct manager *m;
	unsigned n; /* meters that run */
};

const double create_bounds_s[CREATE_BUCKETS] = { 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
						 1,    2.5,   5,    10,  30,   60 };

void create_stats_add(struct create_stats *s, uint64_t ns)
{
	s->ok++;
	s->total_ns += ns;
	for (size_t i = 0; i < CREATE_BUCKETS; i++)
		s->within[i] += (double)ns / (double)NS_PER_S <= create_bounds_s[i];
}

const struct create_stats *manager_create_stats(const struct manager *m)
{
	return &m->creates;
}

uint64_t meter_worked_ns(const struct sandbox *sb)
{
	return sb->meter->worked_ns;
}

uint64_t meter_own_bytes(const struct sandbox *sb)
{
	return sb->meter->anon_bytes;
}

void meter_asked(struct sandbox *sb)
{
	sb->meter->asked = true;
}

struct http_fetch *meter_ask_agent(struct sandbox *sb, const struct http_fetch_spec *wish)
{
	const char *token = sb->row.access_token;
	const struct http_field fields[] = {
		{ token[0] != '\0' ? "X-Access-Token" : NULL, token },
		{ NULL, NULL },
	};
	struct http_fetch_spec spec = *wish;

	spec.addr = (struct sockaddr_in){ .sin_family = AF_INET,
					  .sin_port = htons(GUEST_PORT),
					  .sin_addr = sb->res.slot.addr };
	spec.fields = fields;
	spec.arg = sb;
	meter_asked(sb);
	return http_fetch_start(sb->m->loop, &spec);
}

struct meter *meter_new(void)
{
	struct meter *meter = xcalloc(1, sizeof(*meter));

	memcpy(meter->h.magic, history_magic, sizeof(history_magic));
	meter->proc = (struct proc_meter)PROC_METER_INIT;
	return meter;
}

void meter_free(struct meter *meter)
{
	if (meter == NULL)
		return;
	assert(!meter->running && meter->fetch == NULL);
	free(meter);
}

/* Whoever waits is told, whatever came of it; they may ask anew at once. */
static void tell_waiters(struct meter *meter)
{
	struct ask_waiters waiters = meter->waiters;

	meter->waiters = (struct ask_waiters){ 0 };
	vec_foreach (w, &waiters)
		w->done(w->arg);
	ask_waiters_done(&waiters);
}

static void push(struct sandbox *sb, enum series_guest guest)
{
	struct meter *meter = sb->meter;
	struct series_sample sample = {
		.unix_s = clock_realtime_ms() / MS_PER_S,
		.cpu = meter->cpu,
		.host_mem = meter->anon_bytes,
		.host_disk = sandbox_disk_allocated(sb),
		.guest = meter->h.guest_ms == 0 ? SERIES_GUEST_NONE : guest,
		.mem_used = meter->h.guest.mem_used,
		.mem_cache = meter->h.guest.mem_cache,
		.disk_used = meter->h.guest.disk_used,
	};

	series_push(&meter->h.series, &sample);
}

/* Takes what the kernel tells. Return: 0; -errno: the VM is about to end. */
static int look(struct sandbox *sb)
{
	struct meter *meter = sb->meter;
	uint64_t now_ns = clock_now_ns();
	uint64_t wall_ns = now_ns - meter->seen_ns;
	struct proc_usage usage;
	uint64_t cpu_ns;
	int r = proc_meter_read(&meter->proc, &usage);

	if (r < 0)
		return r;
	if (wall_ns < NS_PER_MS * (uint64_t)TICK_MS / 4 && meter->h.series.first_s != 0)
		return 0; /* too short to tell a rate */
	cpu_ns = usage.cpu_ns > meter->h.vm_cpu_ns ? usage.cpu_ns - meter->h.vm_cpu_ns : 0;
	meter->cpu =
		(unsigned)MIN(cpu_ns * SERIES_CPU_MAX / (MAX(wall_ns, UINT64_C(1)) * sb->row.cpus),
			      (uint64_t)SERIES_CPU_MAX);
	if (cpu_ns * 1000 / MAX(wall_ns, UINT64_C(1)) >=
	    (meter->asked ? WORK_ASKED_PERMILLE : WORK_PERMILLE)) {
		meter->worked = true;
		meter->worked_ns = now_ns;
	}
	meter->asked = meter->fetch != NULL || sb->probe.fetch != NULL;
	meter->h.cpu_ns += cpu_ns;
	meter->anon_bytes = usage.anon_bytes;
	meter->h.vm_cpu_ns = usage.cpu_ns;
	meter->seen_ns = now_ns;
	return 0;
}

static void told(struct sandbox *sb, const struct guest_metrics *g)
{
	struct meter *meter = sb->meter;

	meter->h.guest = *g;
	meter->h.guest_ms = clock_realtime_ms();
	meter->backoff_ms = 0;
	if (look(sb) == 0)
		push(sb, SERIES_GUEST_NOW);
}

/* An agent that does not answer is asked less and less often. */
static void not_told(struct sandbox *sb, const char *why)
{
	struct meter *meter = sb->meter;

	if (meter->backoff_ms == 0)
		log_warning("sandbox.metrics_missing", kv_str("id", sb->row.id.s),
			    kv_str("error", why));
	meter->backoff_ms = MIN(MAX(2 * meter->backoff_ms, (uint64_t)GUEST_EVERY_MS),
				(uint64_t)GUEST_BACKOFF_MOST_MS);
	meter->ask_next_ns = clock_now_ns() + meter->backoff_ms * NS_PER_MS;
	meter->worked = true; /* it still has to tell */
}

static void on_answer(int status, const char *body, size_t n, void *arg)
{
	struct sandbox *sb = arg;
	struct meter *meter = sb->meter;
	struct guest_metrics g;
	struct err e = { 0 };
	int r;

	meter->fetch = NULL;
	meter->asked = true;
	if (status == 200)
		r = guest_metrics_parse(body, n, &g, &e);
	else if (status < 0)
		r = err_errno(&e, -status, "ask the guest agent for its metrics");
	else
		r = err_set(&e, ERR_AGENT,
			    "the guest agent answered GET /metrics with HTTP status %d", status);
	if (status >= 0)
		probe_answered(sb);
	if (r == 0)
		told(sb, &g);
	else
		not_told(sb, e.msg);
	tell_waiters(meter);
}

static bool can_ask(const struct sandbox *sb, uint64_t now_ns)
{
	const struct meter *meter = sb->meter;

	return meter->running && meter->fetch == NULL && now_ns >= meter->ask_next_ns &&
	       vmm_running(sb->res.vmm);
}

static void ask(struct sandbox *sb, uint64_t now_ns)
{
	static const struct http_fetch_spec question = {
		.target = "/metrics",
		.max_bytes = GUEST_METRICS_MAX_BYTES,
		.timeout_ms = GUEST_TIMEOUT_MS,
		.done = on_answer,
	};
	struct meter *meter = sb->meter;

	meter->requests++;
	meter->worked = false;
	meter->ask_next_ns = now_ns + GUEST_EVERY_MS * (uint64_t)NS_PER_MS;
	meter->fetch = meter_ask_agent(sb, &question);
}

static void sample(struct sandbox *sb)
{
	uint64_t now_ns = clock_now_ns();

	if (look(sb) < 0)
		return;
	push(sb, SERIES_GUEST_LAST);
	if (sb->meter->worked && can_ask(sb, now_ns))
		ask(sb, now_ns);
}

static void on_tick(uv_timer_t *timer);

/* In the middle of the clock's next second: none is left out and none counted twice, however late a
 * tick is. */
static void arm(struct sampler *s)
{
	uint64_t into_ms = clock_realtime_ms() % TICK_MS;

	uv_update_time(s->m->loop);
	uv_timer_start(&s->timer, on_tick, TICK_MS - into_ms + TICK_MS / 2, 0);
}

static void on_tick(uv_timer_t *timer)
{
	struct sampler *s = timer->data;
	struct room_disk disk;

	vec_foreach (at, &s->m->all) {
		if ((*at)->meter->running)
			sample(*at);
	}
	arm(s);
	probe_tick(s->m);
	room_look(s->m, &disk);
	frozen_tick(s->m, &disk); /* last: the meters that it stops may be all */
}

static void on_sampler_closed(uv_handle_t *handle)
{
	free(handle->data);
}

static void sampler_join(struct manager *m)
{
	if (m->sampler == NULL) {
		m->sampler = xcalloc(1, sizeof(*m->sampler));
		m->sampler->m = m;
		uv_timer_init(m->loop, &m->sampler->timer);
		m->sampler->timer.data = m->sampler;
		arm(m->sampler);
	}
	m->sampler->n++;
}

static void sampler_leave(struct manager *m)
{
	if (--m->sampler->n > 0)
		return;
	uv_close((uv_handle_t *)&m->sampler->timer, on_sampler_closed);
	m->sampler = NULL;
}

/* What a VM used before it is watched: all of a new one's; of one that an earlier daemon watched,
 * what came since. */
static void count_unseen(struct meter *meter, int64_t pid, uint64_t cpu_ns)
{
	bool same = pid == meter->h.pid && cpu_ns >= meter->h.vm_cpu_ns;

	meter->h.cpu_ns += same ? cpu_ns - meter->h.vm_cpu_ns : cpu_ns;
	meter->h.pid = pid;
	meter->h.vm_cpu_ns = cpu_ns;
}

void meter_start(struct sandbox *sb)
{
	struct meter *meter = sb->meter;
	struct proc_usage usage;
	int r = proc_meter_open((pid_t)vmm_pid(sb->res.vmm), vmm_pidfd(sb->res.vmm), &meter->proc);

	assert(!meter->running);
	if (r == 0)
		r = proc_meter_read(&meter->proc, &usage);
	if (r != 0) {
		proc_meter_done(&meter->proc);
		if (r != -ESRCH)
			log_warning("sandbox.unmetered", kv_str("id", sb->row.id.s),
				    kv_str("error", strerror(-r)));
		return;
	}
	count_unseen(meter, vmm_pid(sb->res.vmm), usage.cpu_ns);
	meter->seen_ns = clock_now_ns();
	meter->anon_bytes = usage.anon_bytes;
	meter->cpu = 0;
	meter->worked = meter->h.guest_ms == 0;
	meter->asked = false;
	meter->ask_next_ns = 0;
	meter->backoff_ms = 0;
	meter->running = true;
	sampler_join(sb->m);
}

void meter_stop(struct sandbox *sb)
{
	struct meter *meter = sb->meter;

	if (!meter->running)
		return;
	meter->running = false;
	http_fetch_cancel(take_ptr(&meter->fetch));
	proc_meter_done(&meter->proc);
	sampler_leave(sb->m);
	tell_waiters(meter);
}

void meter_load(struct sandbox *sb)
{
	auto_free char *path = str_printf("%s/" METRICS_FILE, sb->row.id.s);
	auto_buf text = BUF_INIT(sizeof(struct history));
	auto_free struct history *h = NULL;

	/* Whatever is wrong with it: it is only a past. */
	if (file_read_at(sb->m->sandboxes_fd, path, &text) < 0 || text.len != sizeof(*h))
		return;
	h = (struct history *)(void *)buf_steal(&text);
	if (memcmp(h->magic, history_magic, sizeof(h->magic)) == 0 && series_is_valid(&h->series))
		sb->meter->h = *h;
}

void meter_save(const struct sandbox *sb)
{
	auto_free char *path = str_printf("%s/" METRICS_FILE, sb->row.id.s);
	const struct history *h = &sb->meter->h;
	int r;

	if (h->series.first_s == 0 || sb->row.state == DB_CREATING || sb->row.state == DB_DELETING)
		return;
	r = file_write_hint_at(sb->m->sandboxes_fd, path, h, sizeof(*h), 0600);
	if (r < 0)
		log_warning("sandbox.metrics_unsaved", kv_str("id", sb->row.id.s),
			    kv_str("error", strerror(-r)));
}

struct metrics_now metrics_now(const struct sandbox *sb)
{
	const struct meter *meter = sb->meter;
	struct metrics_now now = {
		.mem_total = meter->h.guest.mem_total,
		.disk_total = meter->h.guest.disk_total,
		.guest_ms = meter->h.guest_ms,
		.guest_requests = meter->requests,
		.cpu_ns = meter->h.cpu_ns,
	};

	now.sampled = series_last(&meter->h.series, &now.last);
	return now;
}

const struct series *metrics_series(const struct sandbox *sb)
{
	return &sb->meter->h.series;
}

int metrics_ask(struct sandbox *sb, void (*done)(void *arg), void *arg)
{
	struct meter *meter = sb->meter;
	uint64_t now_ns = clock_now_ns();

	if (can_ask(sb, now_ns))
		ask(sb, now_ns);
	if (meter->fetch == NULL)
		return 1;
	ask_waiters_push(&meter->waiters, (struct ask_waiter){ done, arg });
	return 0;
}
