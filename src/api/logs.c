/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /sandboxes/{id}/logs (start, limit: oldest first) and GET /v2/sandboxes/{id}/logs (cursor,
 * limit, direction, level, search): what the guest wrote to its console, and what befell the
 * sandbox.
 */
#include "sandbox/logs.h"
#include "api/api-internal.h"
#include "api/late-reply.h"
#include "api/query.h"
#include "base/str.h"
#include "os/work.h"

#include <stdlib.h>

enum { LIMIT_USUAL = 1000, LIMIT_MAX_V1 = 10000, LIMIT_MAX_V2 = 1000 };

/* Milliseconds that nobody's clock comes to. */
static const uint64_t ms_max = UINT64_C(1) << 50;

static const char *const direction_words[] = { "forward", "backward", NULL };
static const char *const level_words[] = { [LOG_LEVEL_ERROR] = "error",
					   [LOG_LEVEL_WARNING] = "warn",
					   [LOG_LEVEL_INFO] = "info",
					   [LOG_LEVEL_DEBUG] = "debug",
					   NULL };

/* A request under way; the worker makes the reply's text. */
struct logs {
	struct late_reply *late;
	struct log_snapshot *snapshot; /* owned */
	struct log_query q;
	char *search; /* owned; NULL = any */
	bool v2;
	char *reply; /* owned; NULL = no memory */
};

static void logs_free(struct logs *l)
{
	log_snapshot_free(l->snapshot);
	free(l->search);
	free(l->reply);
	free(l);
}

static int parse_limit(const char *query, uint64_t most, struct log_query *q, struct err *e)
{
	uint64_t limit = LIMIT_USUAL;
	int r = query_u64(query, "limit", 0, most, &limit, e);

	q->limit = limit;
	return r < 0 ? r : 0;
}

static int parse_v1(const char *query, struct logs *l, struct err *e)
{
	int r = query_u64(query, "start", 0, ms_max, &l->q.from_ms, e);

	return r < 0 ? r : parse_limit(query, LIMIT_MAX_V1, &l->q, e);
}

static int parse_v2(const char *query, struct logs *l, struct err *e)
{
	uint64_t cursor = 0;
	size_t direction = 0;
	size_t level = LOG_LEVEL_DEBUG;
	int has_cursor = query_u64(query, "cursor", 0, ms_max, &cursor, e);
	int r = has_cursor;

	if (r >= 0)
		r = query_choice(query, "direction", direction_words, &direction, e);
	if (r >= 0)
		r = query_choice(query, "level", level_words, &level, e);
	if (r >= 0)
		r = query_text(query, "search", &l->search, e);
	if (r < 0)
		return r;
	l->q.backward = direction == 1;
	l->q.least = (enum log_level)level;
	l->q.search = l->search;
	if (has_cursor > 0 && l->q.backward)
		l->q.to_ms = cursor;
	else
		l->q.from_ms = cursor;
	return parse_limit(query, LIMIT_MAX_V2, &l->q, e);
}

static json_t *json_of_line(const struct log_line *line, bool short_form)
{
	json_t *time = json_of_time(line->ms);

	if (short_form)
		return json_pack("{s:o, s:o}", "timestamp", time, "line", json_of_text(line->text));
	return json_pack("{s:o, s:s, s:o, s:{s:s}}", "timestamp", time, "level",
			 level_words[line->level], "message", json_of_text(line->text), "fields",
			 "source", line->console ? "console" : "vivd");
}

/* New reference; NULL without memory. */
static json_t *json_of_lines(const struct log_lines *lines, bool short_form)
{
	json_t *all = json_array();

	vec_foreach (line, lines)
		if (json_array_append_new(all, json_of_line(line, short_form)) < 0) {
			json_decref(all);
			return NULL;
		}
	return all;
}

static void logs_work(void *arg)
{
	struct logs *l = arg;
	struct log_lines lines = { 0 };
	auto_json *reply = NULL;

	log_snapshot_select(l->snapshot, &l->q, &lines);
	if (l->v2)
		reply = json_pack("{s:o}", "logs", json_of_lines(&lines, false));
	else
		reply = json_pack("{s:o, s:o}", "logs", json_of_lines(&lines, true), "logEntries",
				  json_of_lines(&lines, false));
	l->reply = reply != NULL ? json_dumps(reply, JSON_COMPACT) : NULL;
	log_lines_free(&lines);
}

static void logs_done(void *arg)
{
	struct logs *l = arg;
	struct http_exchange *x = late_reply_take(l->late);

	if (x != NULL && l->reply != NULL)
		reply_bytes(x, 200, NULL, "application/json", l->reply, strlen(l->reply));
	else if (x != NULL)
		reply_json(x, 500, NULL, NULL);
	logs_free(l);
}

static void logs_get(struct http_exchange *x, const char *id, struct api *api, bool v2)
{
	const char *query = http_exchange_head(x)->query;
	struct logs *l = xcalloc(1, sizeof(*l));
	struct err e = { 0 };
	const struct sandbox *sb = manager_find(api->m, id, &e);

	l->v2 = v2;
	l->q = (struct log_query){ .to_ms = UINT64_MAX, .least = LOG_LEVEL_DEBUG };
	if (sb == NULL || (v2 ? parse_v2 : parse_v1)(query, l, &e) < 0) {
		reply_error(x, &e);
		logs_free(l);
		return;
	}
	l->late = late_reply_new(x);
	l->snapshot = log_snapshot_take(sb);
	work_submit(manager_uv_loop(api->m), logs_work, logs_done, l);
}

void logs_get_v1(struct http_exchange *x, const struct route_params *p, void *arg)
{
	logs_get(x, p->at[0], arg, false);
}

void logs_get_v2(struct http_exchange *x, const struct route_params *p, void *arg)
{
	logs_get(x, p->at[0], arg, true);
}
