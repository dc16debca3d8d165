/* SPDX-License-Identifier: Apache-2.0 */
/* GET /metrics: sandboxes and daemon in the text format of Prometheus. No guest is asked. */
#include "api/api-internal.h"
#include "base/clock.h"
#include "base/str.h"
#include "os/proc.h"
#include "sandbox/metrics.h"
#include "sandbox/ready.h"

#include <inttypes.h>

enum { TEXT_MAX = 64 << 20, MIB = 1024 * 1024, CPU_MAX = SERIES_CPU_MAX };

/* A page under way; its first failure (no memory) stays. */
struct page {
	struct buf text;
	int r;
};

/* One value for each sandbox that has it. */
struct family {
	const char *name;
	const char *type;
	const char *help;
	/* Return: whether it has one. */
	bool (*value)(const struct sandbox *sb, const struct metrics_now *now, double *out);
};

static void put(struct page *p, const char *fmt, ...) printf_like(2, 3);

static void put(struct page *p, const char *fmt, ...)
{
	va_list ap;

	if (p->r < 0)
		return;
	va_start(ap, fmt);
	p->r = buf_vprintf(&p->text, fmt, ap);
	va_end(ap);
}

static void put_head(struct page *p, const char *name, const char *type, const char *help)
{
	put(p, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void put_one(struct page *p, const char *name, const char *type, const char *help,
		    double value)
{
	put_head(p, name, type, help);
	put(p, "%s %.17g\n", name, value);
}

static void put_label(struct page *p, const char *value)
{
	for (; *value != '\0'; value++) {
		if (*value == '\\' || *value == '"')
			put(p, "\\%c", *value);
		else if (*value == '\n')
			put(p, "\\n");
		else
			put(p, "%c", *value);
	}
}

static bool cpu_seconds(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)sb;
	*out = (double)now->cpu_ns / (double)NS_PER_S;
	return true;
}

static bool cpu_ratio(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)sb;
	*out = (double)now->last.cpu / CPU_MAX;
	return now->sampled;
}

static bool cpus(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)now;
	*out = sandbox_row(sb)->cpus;
	return true;
}

static bool memory_limit(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)now;
	*out = (double)(sandbox_row(sb)->memory_mib * MIB);
	return true;
}

static bool host_memory(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)sb;
	*out = (double)now->last.host_mem;
	return now->sampled;
}

static bool host_disk(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)sb;
	*out = (double)now->last.host_disk;
	return now->sampled;
}

static bool guest_memory_used(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)sb;
	*out = (double)now->last.mem_used;
	return now->sampled && now->last.guest != SERIES_GUEST_NONE;
}

static bool guest_memory_cache(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)sb;
	*out = (double)now->last.mem_cache;
	return now->sampled && now->last.guest != SERIES_GUEST_NONE;
}

static bool guest_disk_used(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)sb;
	*out = (double)now->last.disk_used;
	return now->sampled && now->last.guest != SERIES_GUEST_NONE;
}

static bool guest_disk_total(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)sb;
	*out = (double)now->disk_total;
	return now->disk_total != 0;
}

static bool guest_time(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)sb;
	*out = (double)now->guest_ms / MS_PER_S;
	return now->guest_ms != 0;
}

static bool guest_requests(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)sb;
	*out = (double)now->guest_requests;
	return true;
}

static bool streams(const struct sandbox *sb, const struct metrics_now *now, double *out)
{
	(void)now;
	*out = (double)sandbox_proxied(sb);
	return true;
}

static const struct family families[] = {
	{ "vivarium_sandbox_cpu_seconds_total", "counter", "CPU time of the sandbox's VMs.",
	  cpu_seconds },
	{ "vivarium_sandbox_cpu_ratio", "gauge", "Share of its CPUs in use, 0 to 1.", cpu_ratio },
	{ "vivarium_sandbox_cpus", "gauge", "CPUs of the sandbox.", cpus },
	{ "vivarium_sandbox_memory_limit_bytes", "gauge", "Memory of the sandbox.", memory_limit },
	{ "vivarium_sandbox_host_memory_bytes", "gauge", "Memory of the host that its VMM owns.",
	  host_memory },
	{ "vivarium_sandbox_host_disk_bytes", "gauge", "Bytes that its disk takes on the host.",
	  host_disk },
	{ "vivarium_sandbox_guest_memory_used_bytes", "gauge", "Memory in use, as told last.",
	  guest_memory_used },
	{ "vivarium_sandbox_guest_memory_cache_bytes", "gauge", "Page cache, as told last.",
	  guest_memory_cache },
	{ "vivarium_sandbox_guest_disk_used_bytes", "gauge", "File system in use, as told last.",
	  guest_disk_used },
	{ "vivarium_sandbox_guest_disk_size_bytes", "gauge", "Size of the guest's file system.",
	  guest_disk_total },
	{ "vivarium_sandbox_guest_told_timestamp_seconds", "gauge", "When the guest told last.",
	  guest_time },
	{ "vivarium_sandbox_guest_requests_total", "counter",
	  "How often its agent was asked for metrics.", guest_requests },
	{ "vivarium_sandbox_streams", "gauge", "Connections proxied into the sandbox.", streams },
};

struct family_walk {
	struct page *page;
	const struct family *family;
};

static void put_sandbox(struct sandbox *sb, void *arg)
{
	struct family_walk *w = arg;
	const struct db_sandbox *row = sandbox_row(sb);
	struct metrics_now now = metrics_now(sb);
	double value;

	if (!w->family->value(sb, &now, &value))
		return;
	put(w->page, "%s{sandbox=\"%s\",name=\"", w->family->name, row->id.s);
	put_label(w->page, row->name);
	put(w->page, "\",template=\"");
	put_label(w->page, row->template_name);
	put(w->page, "\"} %.17g\n", value);
}

static void count_state(struct sandbox *sb, void *arg)
{
	uint64_t *n = arg;

	n[sandbox_row(sb)->state]++;
}

static void put_states(struct page *p, struct manager *m)
{
	static const char name[] = "vivarium_sandboxes";
	uint64_t n[DB_STATE_N] = { 0 };

	manager_each(m, count_state, n);
	n[DB_READY] = ready_count(m);
	put_head(p, name, "gauge", "Sandboxes by state.");
	for (enum db_state s = 0; s < DB_STATE_N; s++)
		put(p, "%s{state=\"%s\"} %" PRIu64 "\n", name, db_state_name(s), n[s]);
}

static void put_creates(struct page *p, struct manager *m)
{
	static const char total[] = "vivarium_creates_total";
	static const char time[] = "vivarium_create_duration_seconds";
	const struct create_stats *c = manager_create_stats(m);

	put_head(p, total, "counter", "Creates that ended, by how.");
	put(p, "%s{result=\"ok\"} %" PRIu64 "\n", total, c->ok);
	put(p, "%s{result=\"failed\"} %" PRIu64 "\n", total, c->failed);
	put(p, "%s{result=\"cancelled\"} %" PRIu64 "\n", total, c->cancelled);
	put_head(p, time, "histogram", "Time that successful creates took.");
	for (size_t i = 0; i < CREATE_BUCKETS; i++)
		put(p, "%s_bucket{le=\"%g\"} %" PRIu64 "\n", time, create_bounds_s[i],
		    c->within[i]);
	put(p, "%s_bucket{le=\"+Inf\"} %" PRIu64 "\n", time, c->ok);
	put(p, "%s_sum %.9f\n%s_count %" PRIu64 "\n", time, (double)c->total_ns / (double)NS_PER_S,
	    time, c->ok);
}

static void put_daemon(struct page *p, struct manager *m)
{
	struct manager_versions v = manager_versions(m);
	struct proc_self self;

	proc_self_read(&self);
	put_head(p, "vivarium_build_info", "gauge", "Versions; the value is 1.");
	put(p, "vivarium_build_info{version=\"");
	put_label(p, v.vivd);
	put(p, "\",vmm=\"");
	put_label(p, v.vmm);
	put(p, "\",vmm_version=\"");
	put_label(p, v.vmm_version);
	put(p, "\"} 1\n");
	put_one(p, "process_cpu_seconds_total", "counter", "CPU time of vivd.",
		(double)self.cpu_ns / (double)NS_PER_S);
	put_one(p, "process_resident_memory_bytes", "gauge", "Resident memory of vivd.",
		(double)self.resident_bytes);
	put_one(p, "process_open_fds", "gauge", "Open descriptors of vivd.", (double)self.open_fds);
	put_one(p, "process_max_fds", "gauge", "Descriptors that vivd may open.",
		(double)self.max_fds);
}

void metrics_prometheus(struct http_exchange *x, const struct route_params *params, void *arg)
{
	struct api *api = arg;
	struct page page = { .text = BUF_INIT(TEXT_MAX) };
	struct err e = { 0 };

	(void)params;
	put_daemon(&page, api->m);
	put_states(&page, api->m);
	put_creates(&page, api->m);
	for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
		struct family_walk w = { .page = &page, .family = &families[i] };

		put_head(&page, families[i].name, families[i].type, families[i].help);
		manager_each(api->m, put_sandbox, &w);
	}
	if (page.r < 0) {
		err_errno(&e, -page.r, "write the metrics");
		reply_error(x, &e);
	} else {
		reply_bytes(x, 200, NULL, "text/plain; version=0.0.4; charset=utf-8",
			    buf_head(&page.text), page.text.len);
	}
	buf_done(&page.text);
}
