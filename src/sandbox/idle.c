/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The idle timeout: a sandbox that nobody uses for so long is paused or removed. In use it is while
 * a stream into it is open, whatever that carries, and by whoever pings it or changes its deadline;
 * and by its own work, seen on the host: its VMM's CPU time, each second, and the bytes of its
 * link, when its time seems to have come. So what is quiet but busy goes on.
 *
 * Nothing of this is in the row but how long and what then: a new daemon, a resume and a start each
 * begin the time anew. It is looked at again when the pause has its turn. A pause that fails leaves
 * the sandbox running, and is tried again later.
 */
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/metrics-internal.h"
#include "sandbox/rests.h"
#include "sandbox/sandbox-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

enum { RETRY_FIRST_MS = 5000, RETRY_MOST_MS = 300000, LINK_NOISE_BYTES = 1024 };

/* What has gone over its link in both directions; 0 = not known. */
static uint64_t link_bytes(const struct sandbox *sb)
{
	static const char *const counters[] = { "rx_bytes", "tx_bytes" };
	uint64_t sum = 0;

	for (size_t i = 0; i < ARRAY_SIZE(counters); i++) {
		auto_free char *path = str_printf("/sys/class/net/%s/statistics/%s",
						  sb->res.slot.link, counters[i]);
		auto_buf text = BUF_INIT(64);

		if (file_read_at(AT_FDCWD, path, &text) == 0)
			sum += strtoull(buf_str(&text), NULL, 10);
	}
	return sum;
}

static uint64_t used_ns(const struct sandbox *sb)
{
	uint64_t asked_ns = MAX(sb->idleness.touched_ns, sb->streams.used_ns);

	return sb->streams.n > 0 ? clock_now_ns() : MAX(asked_ns, meter_worked_ns(sb));
}

static uint64_t left_ms(const struct sandbox *sb)
{
	uint64_t end_ns = used_ns(sb) + sb->row.idle_s * NS_PER_S;
	uint64_t now_ns = clock_now_ns();

	end_ns = MAX(end_ns, sb->idleness.again_ns);
	return end_ns > now_ns ? (end_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS : 0;
}

bool idle_is_over(const struct sandbox *sb)
{
	return sb->row.idle_s > 0 && left_ms(sb) == 0;
}

uint64_t idle_left_ms(const struct sandbox *sb)
{
	return left_ms(sb);
}

void sandbox_touch(struct sandbox *sb)
{
	sb->idleness.touched_ns = clock_now_ns();
}

static void note_link(struct sandbox *sb)
{
	sb->idleness.link_bytes = link_bytes(sb);
	sb->idleness.probes = sb->probe.sent;
}

void idle_begin(struct sandbox *sb)
{
	sandbox_touch(sb);
	if (sb->row.idle_s > 0)
		note_link(sb);
}

void idle_renew(struct sandbox *sb)
{
	sb->idleness.again_ns = 0;
	sb->idleness.wait_ms = 0;
	if (sb->watch == NULL)
		return; /* the time begins with the next one */
	idle_begin(sb);
	watch_idle_changed(sb);
}

/* A guest on a link has traffic of its own once in a while, which is no work. */
static bool link_worked(struct sandbox *sb)
{
	uint64_t before = sb->idleness.link_bytes;

	uint64_t probed = (sb->probe.sent - sb->idleness.probes) * PROBE_BYTES;

	note_link(sb);
	return sb->idleness.link_bytes > before + LINK_NOISE_BYTES + probed;
}

static void on_removed(const struct err *e, void *arg)
{
	(void)arg;
	if (e != NULL)
		log_error("sandbox.idle_failed", kv_str("error", e->msg));
}

static void pause_again_later(struct sandbox *sb, const struct err *e)
{
	struct idleness *idleness = &sb->idleness;

	idleness->wait_ms = idleness->wait_ms == 0
				    ? RETRY_FIRST_MS
				    : MIN(2 * idleness->wait_ms, (uint64_t)RETRY_MOST_MS);
	idleness->again_ns = clock_now_ns() + idleness->wait_ms * NS_PER_MS;
	log_error("sandbox.idle_failed", kv_str("id", sb->row.id.s), kv_str("error", e->msg),
		  kv_u64("again_in_ms", idleness->wait_ms));
}

static void on_paused(struct sandbox *sb, const struct err *e, void *arg)
{
	(void)arg;
	if (sb == NULL)
		return;
	if (e != NULL)
		pause_again_later(sb, e);
	else
		sb->idleness.wait_ms = 0;
	watch_idle_changed(sb); /* of one that runs on */
}

void sandbox_idle_out(struct sandbox *sb)
{
	if (link_worked(sb))
		sandbox_touch(sb);
	if (!idle_is_over(sb)) {
		watch_idle_changed(sb);
		return;
	}
	log_info("sandbox.idle", kv_str("id", sb->row.id.s), kv_u64("seconds", sb->row.idle_s));
	if (sb->row.idle_kill) {
		db_set_str(&sb->row.cause, "idle");
		sandbox_destroy(sb, on_removed, NULL);
		return;
	}
	rest_later(sb, &(struct rest_wish){ .memory = true,
					    .cause = "idle",
					    .wanted = idle_is_over,
					    .done = on_paused });
}
