/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/probe.h"

#include "base/clock.h"
#include "base/guestwords.h"
#include "base/log.h"
#include "base/str.h"
#include "http/fetch.h"
#include "sandbox/metrics-internal.h"
#include "sandbox/sandbox-internal.h"

#include <arpa/inet.h>
#include <signal.h>
#include <sys/pidfd.h>

enum { LATE_MS = 3000, BODY_MAX_BYTES = 4096 };

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
	sb->probe.next_ns = MAX(sb->probe.next_ns, clock_now_ns() + every_ns(sb));
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
	ignore_err(pidfd_send_signal(vmm_pidfd(sb->res.vmm), SIGKILL, NULL, 0)); /* gone: as well */
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

static void on_answer(int status, const char *body, size_t n, void *arg)
{
	struct sandbox *sb = arg;
	uint64_t took_ms = (clock_now_ns() - sb->probe.begun_ns) / NS_PER_MS;

	(void)body;
	(void)n;
	sb->probe.fetch = NULL;
	meter_asked(sb);
	if (status >= 0)
		probe_answered(sb);
	else if (probe_is_miss(took_ms, sb->m->config.agent_probe_timeout_s * MS_PER_S))
		missed(sb);
}

static void ask(struct sandbox *sb, uint64_t now_ns)
{
	static const struct http_field none[] = { { NULL, NULL } };
	const struct http_fetch_spec spec = {
		.addr = { .sin_family = AF_INET,
			  .sin_port = htons(GUEST_PORT),
			  .sin_addr = sb->res.slot.addr },
		.target = "/health",
		.fields = none,
		.max_bytes = BODY_MAX_BYTES,
		.timeout_ms = sb->m->config.agent_probe_timeout_s * MS_PER_S,
		.done = on_answer,
		.arg = sb,
	};

	sb->probe.begun_ns = now_ns;
	sb->probe.next_ns = now_ns + every_ns(sb);
	sb->probe.sent++;
	meter_asked(sb);
	sb->probe.fetch = http_fetch_start(sb->m->loop, &spec);
}

static bool can_ask(const struct sandbox *sb)
{
	return sb->watch != NULL && !sb->busy && !sb->doomed && sb->probe.fetch == NULL &&
	       vmm_running(sb->res.vmm);
}

void probe_tick(struct manager *m)
{
	uint64_t now_ns = clock_now_ns();

	if (m->config.agent_probe_s == 0)
		return;
	vec_foreach (at, &m->all) {
		if (now_ns >= (*at)->probe.next_ns && can_ask(*at))
			ask(*at, now_ns);
	}
}
