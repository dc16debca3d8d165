/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/probe.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/str.h"
#include "http/fetch.h"
#include "sandbox/metrics-internal.h"
#include "sandbox/sandbox-internal.h"

#include <inttypes.h>
#include <stdio.h>

enum { CLOCK_STEP_MS = 500, LATE_MS = 3000, BODY_MAX_BYTES = 4096 };
static const int64_t CLOCK_ERROR_MAX_NS = 50 * (int64_t)NS_PER_MS;
static const int64_t CLOCK_JUMP_NS = 200 * (int64_t)NS_PER_MS;

static const char silent[] = "the guest agent does not answer any more";

/* Not all of those that a new daemon finds at the same moment. */
static uint64_t jitter_ns(const struct sandbox *sb, uint64_t every_ns)
{
	const char *id = sb->row.id.s;
	uint64_t n = 0;

	for (size_t i = 0; id[i] != '\0'; i++)
		n = n * 31 + (unsigned char)id[i];
	return every_ns / 2 + n % (every_ns / 2);
}

static uint64_t every_ns(const struct sandbox *sb)
{
	return sb->m->config.agent_probe_s * NS_PER_S;
}

void probe_start(struct sandbox *sb)
{
	if (sb->m->config.agent_probe_s > 0)
		sb->probe.next_ns = clock_now_ns() + jitter_ns(sb, every_ns(sb));
}

void probe_stop(struct sandbox *sb)
{
	http_fetch_cancel(take_ptr(&sb->probe.fetch));
}

void probe_answered(struct sandbox *sb)
{
	sb->probe.missed = 0;
	if (sb->condition != SANDBOX_SILENT)
		return;
	sb->condition = SANDBOX_WELL;
	log_info("sandbox.answers", kv_str("id", sb->row.id.s));
	sandbox_set_state(sb, sb->row.state, "");
}

/* The watch hears of the end, as of any other. */
static void end_vm(struct sandbox *sb)
{
	sb->probe.ended = true;
	log_warning("sandbox.silent_ended", kv_str("id", sb->row.id.s));
	ignore_err(vmm_kill(sb->res.vmm));
}

static void missed(struct sandbox *sb)
{
	if (++sb->probe.missed < PROBE_MISSES)
		return;
	if (sb->condition == SANDBOX_WELL) {
		sb->condition = SANDBOX_SILENT;
		log_error("sandbox.silent", kv_str("id", sb->row.id.s),
			  kv_u64("missed", sb->probe.missed));
		sandbox_set_state(sb, sb->row.state, silent);
	}
	if (restart_is_due(sb))
		end_vm(sb);
}

bool probe_is_miss(uint64_t took_ms, uint64_t timeout_ms)
{
	return took_ms <= timeout_ms + LATE_MS;
}

int64_t probe_clock_error(uint64_t guest_ns, uint64_t host_ns, uint64_t took_ns)
{
	/* When it looked at its clock is somewhere between the question and the answer. */
	int64_t unsure_ns = (int64_t)(took_ns / 2) + CLOCK_ERROR_MAX_NS;
	int64_t by_ns;

	if (guest_ns > INT64_MAX || host_ns > INT64_MAX)
		return 0;
	by_ns = (int64_t)host_ns - (int64_t)(took_ns / 2) - (int64_t)guest_ns;
	return -unsure_ns <= by_ns && by_ns <= unsure_ns ? 0 : by_ns;
}

int64_t probe_clock_jump(int64_t *was_ns, uint64_t realtime_ns, uint64_t monotonic_ns)
{
	int64_t now_ns = (int64_t)realtime_ns - (int64_t)monotonic_ns;
	int64_t by_ns = *was_ns == 0 ? 0 : now_ns - *was_ns;

	*was_ns = now_ns;
	return -CLOCK_JUMP_NS <= by_ns && by_ns <= CLOCK_JUMP_NS ? 0 : by_ns;
}

static void ask_agent(struct sandbox *sb, const char *method, const char *target,
		      void (*done)(int status, const char *body, size_t n, void *arg))
{
	const struct http_fetch_spec question = {
		.method = method,
		.target = target,
		.max_bytes = BODY_MAX_BYTES,
		.timeout_ms = sb->m->config.agent_probe_timeout_s * MS_PER_S,
		.done = done,
	};

	sb->probe.begun_ns = clock_now_ns();
	sb->probe.sent++;
	sb->probe.fetch = meter_ask_agent(sb, &question);
}

static uint64_t ms_of(int64_t ns)
{
	return (uint64_t)(ns < 0 ? -ns : ns) / NS_PER_MS;
}

static const char *side_of(int64_t by_ns)
{
	return by_ns > 0 ? "late" : "early";
}

/* A little takes the guest long, and is tried again and again: nobody has to read that. */
static void on_clock_set(int status, const char *body, size_t n, void *arg)
{
	struct sandbox *sb = arg;
	uint64_t ms = ms_of(sb->probe.clock_by_ns);

	(void)body;
	(void)n;
	sb->probe.fetch = NULL;
	meter_asked(sb);
	if (status != 204) /* the next probe tries again */
		log_warning("sandbox.clock_wrong", kv_str("id", sb->row.id.s),
			    kv_str("it_is", side_of(sb->probe.clock_by_ns)), kv_u64("ms", ms),
			    kv_str("answer", status < 0 ? strerrordesc_np(-status) : "refused"));
	else if (ms >= CLOCK_STEP_MS)
		log_info("sandbox.clock_set", kv_str("id", sb->row.id.s),
			 kv_str("it_was", side_of(sb->probe.clock_by_ns)), kv_u64("ms", ms));
}

/* @text: what the guest says that the time is; anything. */
static void check_clock(struct sandbox *sb, const char *text, uint64_t took_ns)
{
	uint64_t host_ns = clock_realtime_ns();
	char target[40];
	uint64_t guest_ns;

	if (parse_u64(text, 0, UINT64_MAX, &guest_ns) < 0)
		return;
	sb->probe.clock_by_ns = probe_clock_error(guest_ns, host_ns, took_ns);
	if (sb->probe.clock_by_ns == 0)
		return;
	snprintf(target, sizeof(target), "/clock/%" PRId64, sb->probe.clock_by_ns);
	ask_agent(sb, "POST", target, on_clock_set);
}

static void on_answer(int status, const char *body, size_t n, void *arg)
{
	struct sandbox *sb = arg;
	uint64_t took_ns = clock_now_ns() - sb->probe.begun_ns;

	(void)n;
	sb->probe.fetch = NULL;
	meter_asked(sb);
	if (status >= 0)
		probe_answered(sb);
	else if (probe_is_miss(took_ns / NS_PER_MS, sb->m->config.agent_probe_timeout_s * MS_PER_S))
		missed(sb);
	if (status == 200) /* an agent of an older image does not know */
		check_clock(sb, body, took_ns);
}

void probe_soon(struct sandbox *sb)
{
	sb->probe.next_ns = 0;
}

/* Also when the host has slept: CLOCK_MONOTONIC stands still then. */
static bool clock_jumped(struct manager *m)
{
	int64_t by_ns = probe_clock_jump(&m->clock_ns, clock_realtime_ns(), clock_now_ns());

	if (by_ns == 0)
		return false;
	log_info("host.clock_jumped", kv_str("guests_are", side_of(by_ns)),
		 kv_u64("ms", ms_of(by_ns)));
	return true;
}

static bool can_ask(const struct sandbox *sb)
{
	return sb->watch != NULL && !sb->busy && !sb->doomed && sb->probe.fetch == NULL &&
	       vmm_running(sb->res.vmm);
}

void probe_tick(struct manager *m)
{
	uint64_t now_ns = clock_now_ns();
	bool all;

	if (m->config.agent_probe_s == 0)
		return;
	all = clock_jumped(m);
	vec_foreach (at, &m->all) {
		if (all)
			probe_soon(*at);
		if (now_ns < (*at)->probe.next_ns || !can_ask(*at))
			continue;
		(*at)->probe.next_ns = now_ns + every_ns(*at);
		ask_agent(*at, NULL, "/clock", on_answer);
	}
}
