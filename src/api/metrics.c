/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /sandboxes/{id}/metrics: samples of one sandbox, oldest first, from `start` to `end` (Unix
 * time) or over the last `range`; the samples are as close as they are kept that far back. If now
 * is in it the guest is asked for its part.
 *
 * GET /sandboxes/metrics?sandbox_ids=: the newest sample of each. No guest is asked.
 */
#include "sandbox/metrics.h"
#include "api/api-internal.h"
#include "api/late-reply.h"
#include "api/query.h"
#include "base/clock.h"
#include "base/str.h"

#include <stdlib.h>

enum { IDS_MAX = 100, MIB = 1024 * 1024, CPU_PER_PERCENT = 100 };

/* Seconds that nobody's clock comes to. */
static const uint64_t unix_s_max = UINT64_C(1) << 40;

static const char *const range_words[] = {
	"5m", "10m", "1h", "2h", "6h", "12h", "24h", "all", NULL
};
static const uint64_t range_s[] = { 300, 600, 3600, 7200, 21600, 43200, 86400, 0 };
static_assert(ARRAY_SIZE(range_s) == ARRAY_SIZE(range_words) - 1, "each has its length");

struct metrics_query {
	uint64_t from_s;
	uint64_t to_s;
};

/* A reply that waits for the guest's part. */
struct waiting {
	struct api *api;
	struct late_reply *late;
	struct sandbox_id id;
	struct metrics_query q;
};

static int metrics_query_parse(const char *query, struct metrics_query *q, struct err *e)
{
	uint64_t now_s = clock_realtime_ms() / MS_PER_S;
	size_t range = ARRAY_SIZE(range_s) - 1;
	int has_start;
	int has_end;
	int has_range = query_choice(query, "range", range_words, &range, e);

	*q = (struct metrics_query){ .to_s = unix_s_max };
	has_start = query_u64(query, "start", 0, unix_s_max, &q->from_s, e);
	has_end = query_u64(query, "end", 0, unix_s_max, &q->to_s, e);
	if (has_range < 0 || has_start < 0 || has_end < 0)
		return -1; /* e is set */
	if (has_range > 0 && has_start + has_end > 0)
		return err_set(e, ERR_INVALID,
			       "parameter 'range' cannot be given with 'start' or 'end'");
	if (q->from_s > q->to_s)
		return err_set(e, ERR_INVALID, "parameter 'end' must not be before 'start'");
	if (has_range > 0 && range_s[range] != 0)
		q->from_s = now_s - MIN(range_s[range], now_s);
	return 0;
}

/* Where the guest never told, what the host sees has to stand for it; `vivarium.guest` says so. */
static json_t *json_of_sample(const struct sandbox *sb, const struct series_sample *s)
{
	static const char *const guest[] = { [SERIES_GUEST_NONE] = "none",
					     [SERIES_GUEST_LAST] = "last",
					     [SERIES_GUEST_NOW] = "now" };
	const struct db_sandbox *row = sandbox_row(sb);
	struct metrics_now now = metrics_now(sb);
	uint64_t mem_total = now.mem_total != 0 ? now.mem_total : row->memory_mib * MIB;
	uint64_t disk_total = now.disk_total != 0 ? now.disk_total : row->disk_mib * MIB;
	bool told = s->guest != SERIES_GUEST_NONE;

	return json_pack(
		"{s:o, s:I, s:i, s:f, s:I, s:I, s:I, s:I, s:I, s:{s:s, s:I, s:I}}", "timestamp",
		json_of_time(s->unix_s * MS_PER_S), "timestampUnix", (json_int_t)s->unix_s,
		"cpuCount", row->cpus, "cpuUsedPct", (double)s->cpu / CPU_PER_PERCENT, "memUsed",
		(json_int_t)(told ? s->mem_used : MIN(s->host_mem, mem_total)), "memTotal",
		(json_int_t)mem_total, "memCache", (json_int_t)s->mem_cache, "diskUsed",
		(json_int_t)(told ? s->disk_used : MIN(s->host_disk, disk_total)), "diskTotal",
		(json_int_t)disk_total, "vivarium", "guest", guest[s->guest], "hostMemBytes",
		(json_int_t)s->host_mem, "hostDiskBytes", (json_int_t)s->host_disk);
}

struct list {
	const struct sandbox *sb;
	json_t *samples;
};

static void add_sample(const struct series_sample *s, void *arg)
{
	struct list *list = arg;

	ignore_err(json_array_append_new(list->samples,
					 json_of_sample(list->sb, s))); /* no memory: 500 */
}

static void reply_samples(struct http_exchange *x, const struct sandbox *sb,
			  const struct metrics_query *q)
{
	const struct series *series = metrics_series(sb);
	struct list list = { .sb = sb, .samples = json_array() };

	series_each(series, series_level_since(series, q->from_s), q->from_s, q->to_s, add_sample,
		    &list);
	reply_json(x, 200, NULL, list.samples);
}

static void on_asked(void *arg)
{
	struct waiting *w = arg;
	struct http_exchange *x = late_reply_take(w->late);
	struct err e = { 0 };
	struct sandbox *sb = manager_find(w->api->m, w->id.s, &e);

	if (x != NULL && sb != NULL)
		reply_samples(x, sb, &w->q);
	else if (x != NULL)
		reply_error(x, &e);
	free(w);
}

static void ask_and_reply(struct http_exchange *x, struct api *api, struct sandbox *sb,
			  const struct metrics_query *q)
{
	struct waiting *w = xcalloc(1, sizeof(*w));

	*w = (struct waiting){
		.api = api, .late = late_reply_new(x), .id = sandbox_row(sb)->id, .q = *q
	};
	if (metrics_ask(sb, on_asked, w) > 0)
		on_asked(w);
}

void metrics_get(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	uint64_t now_s = clock_realtime_ms() / MS_PER_S;
	struct metrics_query q;
	struct err e = { 0 };
	struct sandbox *sb = manager_find(api->m, p->at[0], &e);

	if (sb == NULL || metrics_query_parse(http_exchange_head(x)->query, &q, &e) < 0)
		reply_error(x, &e);
	else if (q.from_s <= now_s && q.to_s >= now_s)
		ask_and_reply(x, api, sb, &q);
	else
		reply_samples(x, sb, &q);
}

/* Adds the newest sample of one of those that were asked for; of an unknown one there is none. */
static int add_latest(json_t *all, struct manager *m, const char *text, struct err *e)
{
	struct sandbox_id id;
	const struct sandbox *sb;
	struct metrics_now now;

	if (id_parse(text, &id) < 0)
		return err_set(e, ERR_INVALID, "parameter 'sandbox_ids': '%s' is no sandbox id",
			       text);
	sb = manager_find(m, id.s, NULL);
	if (sb == NULL)
		return 0;
	now = metrics_now(sb);
	if (now.sampled)
		ignore_err(json_object_set_new(all, id.s,
					       json_of_sample(sb, &now.last))); /* as above */
	return 0;
}

static int collect_latest(const char *query, struct manager *m, json_t *all, struct err *e)
{
	auto_free char *ids = NULL;
	size_t n = 0;
	char *rest;
	char *id;
	int r = query_text(query, "sandbox_ids", &ids, e);

	if (r == 0 && (ids == NULL || ids[0] == '\0'))
		r = err_set(e, ERR_INVALID, "parameter 'sandbox_ids' is missing");
	rest = ids;
	while (r == 0 && (id = strsep(&rest, ",")) != NULL) {
		if (++n > IDS_MAX)
			return err_set(e, ERR_INVALID,
				       "parameter 'sandbox_ids' must have 1 to %d ids", IDS_MAX);
		r = add_latest(all, m, id, e);
	}
	return r;
}

void metrics_latest(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	auto_json *all = json_object();
	struct err e = { 0 };

	(void)p;
	if (collect_latest(http_exchange_head(x)->query, api->m, all, &e) < 0)
		reply_error(x, &e);
	else
		reply_json(x, 200, NULL, json_pack("{s:O}", "sandboxes", all));
}
