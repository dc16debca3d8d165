/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /v2/sandboxes: newest first (order=asc: oldest first), filtered by state, template, start and
 * metadata, in pages. A page token is the place of the last sandbox of the page before,
 * <start>-<id>, so that pages stay whole while sandboxes come and go, that one too.
 */
#include "api/api-internal.h"
#include "api/query.h"
#include "base/clock.h"
#include "base/str.h"

#include <stdlib.h>

enum { LIST_LIMIT_MAX = 100 };

/* Where a sandbox stands in the list: by its start, then by its id. */
struct place {
	uint64_t started_ms;
	struct sandbox_id id;
};

struct list_query {
	bool running;
	bool paused;
	bool unfinished; /* ours, all=true: also those being created or deleted */
	bool ascending;
	bool continued; /* from the place of a page token */
	struct place after;
	uint64_t started_after_ms;
	uint64_t limit;
	char *template; /* NULL = any; owned */
	char *metadata; /* query string of pairs that must all match; NULL = any; owned */
};

static void list_query_done(struct list_query *q)
{
	free(q->template);
	free(q->metadata);
}

static int take_states(const char *query, struct list_query *q, struct err *e)
{
	auto_free char *text = NULL;
	char *rest;
	char *state;
	int r = query_text(query, "state", &text, e);

	if (r < 0)
		return r;
	q->running = q->paused = text == NULL || text[0] == '\0';
	rest = text;
	while (rest != NULL && (state = strsep(&rest, ",")) != NULL) {
		if (streq(state, "running"))
			q->running = true;
		else if (streq(state, "paused"))
			q->paused = true;
		else if (state[0] != '\0')
			return err_set(e, ERR_INVALID,
				       "parameter 'state': '%s' is neither running nor paused",
				       state);
	}
	return 0;
}

static int take_limit(const char *query, struct list_query *q, struct err *e)
{
	int r;

	q->limit = LIST_LIMIT_MAX;
	r = query_u64(query, "limit", 1, LIST_LIMIT_MAX, &q->limit, e);
	return r < 0 ? r : 0;
}

static int take_order(const char *query, struct list_query *q, struct err *e)
{
	auto_free char *order = NULL;
	auto_free char *all = NULL;
	int r = query_text(query, "order", &order, e);

	if (r == 0)
		r = query_text(query, "all", &all, e);
	if (r < 0)
		return r;
	if (order != NULL && !streq(order, "asc") && !streq(order, "desc"))
		return err_set(e, ERR_INVALID, "parameter 'order' must be asc or desc");
	q->ascending = order != NULL && streq(order, "asc");
	q->unfinished = all != NULL && streq(all, "true");
	return 0;
}

static int take_page(const char *query, struct list_query *q, struct err *e)
{
	int r = query_page(query, &q->after.started_ms, q->after.id.s, sizeof(q->after.id.s), e);

	q->continued = r > 0;
	return MIN(r, 0);
}

static int take_started_after(const char *query, struct list_query *q, struct err *e)
{
	auto_free char *text = NULL;
	int r = query_text(query, "startedAfter", &text, e);

	if (r == 0 && text != NULL && clock_parse_rfc3339(text, &q->started_after_ms) < 0)
		return err_set(e, ERR_INVALID,
			       "parameter 'startedAfter' must be a time as RFC 3339 writes it");
	return r;
}

static int list_query_parse(const char *query, struct list_query *q, struct err *e)
{
	int r = take_states(query, q, e);

	if (r == 0)
		r = take_limit(query, q, e);
	if (r == 0)
		r = take_order(query, q, e);
	if (r == 0)
		r = take_page(query, q, e);
	if (r == 0)
		r = take_started_after(query, q, e);
	if (r == 0)
		r = query_text(query, "template", &q->template, e);
	return r < 0 ? r : query_text(query, "metadata", &q->metadata, e);
}

static bool state_wanted(const struct list_query *q, enum db_state s)
{
	switch (s) {
	case DB_CREATING:
	case DB_DELETING:
		return q->unfinished;
	case DB_PAUSED:
	case DB_STOPPED:
	case DB_RESUMING:
	case DB_STARTING:
		return q->paused;
	case DB_RUNNING:
	case DB_PAUSING:
	case DB_STATE_N:
		return q->running;
	case DB_READY: /* nobody's yet */
		return false;
	}
	return false;
}

/* Decodes twice. Return: 0; -errno. */
static int decode_part(const char *s, size_t n, char **out)
{
	auto_free char *once = NULL;
	int r = http_percent_decode(s, n, true, &once);

	return r < 0 ? r : http_percent_decode(once, strlen(once), true, out);
}

/*
 * Clients encode each key and value, then make a query string of them, which encodes again, and
 * that as a parameter: these are the two inner layers.
 */
static bool pair_matches(const json_t *metadata, const char *pair)
{
	const char *eq = strchr(pair, '=');
	auto_free char *key = NULL;
	auto_free char *value = NULL;
	const char *have;

	if (eq == NULL || decode_part(pair, (size_t)(eq - pair), &key) < 0 ||
	    decode_part(eq + 1, strlen(eq + 1), &value) < 0)
		return false;
	have = json_string_value(json_object_get(metadata, key));
	return have != NULL && streq(have, value);
}

static bool metadata_matches(const struct list_query *q, const struct db_sandbox *row)
{
	auto_json *metadata = NULL;
	auto_free char *pairs = NULL;
	char *rest;
	char *pair;

	if (q->metadata == NULL || q->metadata[0] == '\0')
		return true;
	metadata = json_loads(row->metadata_json, 0, NULL);
	pairs = str_dup(q->metadata);
	rest = pairs;
	while ((pair = strsep(&rest, "&")) != NULL) {
		if (!pair_matches(metadata, pair))
			return false;
	}
	return true;
}

struct walk {
	const struct list_query *q;
	struct sandbox **at; /* all that match */
	size_t n;
	size_t cap;
	uint64_t running;
};

static void visit(struct sandbox *sb, void *arg)
{
	struct walk *w = arg;
	const struct db_sandbox *row = sandbox_row(sb);

	w->running += row->state == DB_RUNNING;
	if (!state_wanted(w->q, row->state) || !metadata_matches(w->q, row))
		return;
	if (row->started_ms < w->q->started_after_ms)
		return;
	if (w->q->template != NULL && !streq(w->q->template, row->template_name))
		return;
	if (w->n == w->cap) {
		w->cap = w->cap != 0 ? 2 * w->cap : 64;
		w->at = reallocarray(w->at, w->cap, sizeof(*w->at));
		if (w->at == NULL)
			abort();
	}
	w->at[w->n++] = sb;
}

/* Return: < 0 when @a was started before @b, > 0 when after; ids decide between equals. */
static int place_cmp(const struct place *a, const struct place *b)
{
	if (a->started_ms != b->started_ms)
		return a->started_ms < b->started_ms ? -1 : 1;
	return strcmp(a->id.s, b->id.s);
}

static struct place place_of(const struct sandbox *sb)
{
	const struct db_sandbox *row = sandbox_row(sb);

	return (struct place){ .started_ms = row->started_ms, .id = row->id };
}

static int oldest_first(const void *a, const void *b)
{
	struct place pa = place_of(*(struct sandbox *const *)a);
	struct place pb = place_of(*(struct sandbox *const *)b);

	return place_cmp(&pa, &pb);
}

static int newest_first(const void *a, const void *b)
{
	return oldest_first(b, a);
}

/* The first that stands behind the place of the page token, whether that sandbox is still there. */
static size_t page_start(const struct walk *w)
{
	size_t i = 0;

	for (; w->q->continued && i < w->n; i++) {
		struct place p = place_of(w->at[i]);
		int order = place_cmp(&p, &w->q->after);

		if (w->q->ascending ? order > 0 : order < 0)
			break;
	}
	return i;
}

static void reply_page(struct http_exchange *x, struct walk *w)
{
	size_t start = page_start(w);
	size_t end = MIN(w->n, start + w->q->limit);
	json_t *page = json_array();
	char running[24];
	char token[PAGE_TOKEN_SIZE];
	struct http_field fields[3] = { { "X-Total-Running", running } };

	ignore_err(str_fit(running, sizeof(running), "%llu",
			   (unsigned long long)w->running)); /* fits */
	if (end < w->n) {
		struct place last = place_of(w->at[end - 1]);

		page_token(last.started_ms, last.id.s, token);
		fields[1] = (struct http_field){ "X-Next-Token", token };
	}
	for (size_t i = start; i < end; i++)
		ignore_err(
			json_array_append_new(page, json_of_listed(w->at[i]))); /* no memory: 500 */
	reply_json(x, 200, fields, page);
}

static void list(struct http_exchange *x, struct api *api, struct list_query *q)
{
	struct walk w = { .q = q };

	manager_each(api->m, visit, &w);
	if (w.n > 1)
		qsort(w.at, w.n, sizeof(*w.at), q->ascending ? oldest_first : newest_first);
	reply_page(x, &w);
	free(w.at);
}

void sandboxes_list(struct http_exchange *x, const struct route_params *p, void *arg)
{
	cleanup(list_query_done) struct list_query q = { 0 };
	struct err e = { 0 };

	(void)p;
	if (list_query_parse(http_exchange_head(x)->query, &q, &e) < 0)
		reply_error(x, &e);
	else
		list(x, arg, &q);
}

void sandboxes_list_v1(struct http_exchange *x, const struct route_params *p, void *arg)
{
	cleanup(list_query_done) struct list_query q = { .running = true, .limit = UINT32_MAX };
	struct err e = { 0 };

	(void)p;
	if (query_text(http_exchange_head(x)->query, "metadata", &q.metadata, &e) < 0)
		reply_error(x, &e);
	else
		list(x, arg, &q);
}
