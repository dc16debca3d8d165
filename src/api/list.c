/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /v2/sandboxes: newest first (order=asc: oldest first), filtered by state, template and
 * metadata, in pages. A page token is the id of the last sandbox of the page before, so that pages
 * stay whole while sandboxes come and go.
 */
#include "api/api-internal.h"
#include "base/parse.h"
#include "base/str.h"

#include <stdlib.h>

enum { LIST_LIMIT_MAX = 100 };

struct list_query {
	bool running;
	bool paused;
	bool unfinished; /* ours, all=true: also those being created or deleted */
	bool ascending;
	uint64_t limit;
	char *after;    /* page token, NULL = from the start; owned */
	char *template; /* NULL = any; owned */
	char *metadata; /* query string of pairs that must all match; NULL = any; owned */
};

static void list_query_done(struct list_query *q)
{
	free(q->after);
	free(q->template);
	free(q->metadata);
}

/* One parameter; *@out stays NULL when absent. */
static int take_param(const char *query, const char *name, char **out, struct err *e)
{
	int r = http_query_get(query, name, out);

	return r < 0 ? err_set(e, ERR_INVALID, "parameter '%s' is badly encoded", name) : 0;
}

static int take_states(const char *query, struct list_query *q, struct err *e)
{
	auto_free char *text = NULL;
	char *rest;
	char *state;
	int r = take_param(query, "state", &text, e);

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
	auto_free char *text = NULL;
	int r = take_param(query, "limit", &text, e);

	q->limit = LIST_LIMIT_MAX;
	if (r == 0 && text != NULL && parse_u64(text, 1, LIST_LIMIT_MAX, &q->limit) < 0)
		return err_set(e, ERR_INVALID, "parameter 'limit' must be 1 to %d", LIST_LIMIT_MAX);
	return r;
}

static int take_order(const char *query, struct list_query *q, struct err *e)
{
	auto_free char *order = NULL;
	auto_free char *all = NULL;
	int r = take_param(query, "order", &order, e);

	if (r == 0)
		r = take_param(query, "all", &all, e);
	if (r < 0)
		return r;
	if (order != NULL && !streq(order, "asc") && !streq(order, "desc"))
		return err_set(e, ERR_INVALID, "parameter 'order' must be asc or desc");
	q->ascending = order != NULL && streq(order, "asc");
	q->unfinished = all != NULL && streq(all, "true");
	return 0;
}

static int take_token(const char *query, struct list_query *q, struct err *e)
{
	struct sandbox_id id;
	int r = take_param(query, "nextToken", &q->after, e);

	if (r == 0 && q->after != NULL && q->after[0] != '\0' && id_parse(q->after, &id) < 0)
		return err_set(e, ERR_INVALID,
			       "parameter 'nextToken' is not one that was given out");
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
		r = take_token(query, q, e);
	if (r == 0)
		r = take_param(query, "template", &q->template, e);
	return r < 0 ? r : take_param(query, "metadata", &q->metadata, e);
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
	}
	return false;
}

/* Clients encode each key and value, and then the whole string again: this is the inner layer. */
static bool pair_matches(const json_t *metadata, const char *pair)
{
	const char *eq = strchr(pair, '=');
	auto_free char *key = NULL;
	auto_free char *value = NULL;
	const char *have;

	if (eq == NULL || http_percent_decode(pair, (size_t)(eq - pair), true, &key) < 0 ||
	    http_percent_decode(eq + 1, strlen(eq + 1), true, &value) < 0)
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
	struct sandbox **at; /* all that match, newest first */
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

static void reverse(struct walk *w)
{
	for (size_t i = 0; i < w->n / 2; i++) {
		struct sandbox *other = w->at[w->n - 1 - i];

		w->at[w->n - 1 - i] = w->at[i];
		w->at[i] = other;
	}
}

/* The place behind the sandbox that the token names; its end when that one is gone. */
static size_t page_start(const struct walk *w)
{
	if (w->q->after == NULL || w->q->after[0] == '\0')
		return 0;
	for (size_t i = 0; i < w->n; i++) {
		if (streq(sandbox_id(w->at[i]), w->q->after))
			return i + 1;
	}
	return w->n;
}

static void reply_page(struct http_exchange *x, struct walk *w)
{
	size_t start = page_start(w);
	size_t end = MIN(w->n, start + w->q->limit);
	json_t *page = json_array();
	char running[24];
	struct http_field fields[3] = { { "X-Total-Running", running } };

	ignore_err(str_fit(running, sizeof(running), "%llu",
			   (unsigned long long)w->running)); /* fits */
	if (end < w->n)
		fields[1] = (struct http_field){ "X-Next-Token", sandbox_id(w->at[end - 1]) };
	for (size_t i = start; i < end; i++)
		ignore_err(
			json_array_append_new(page, json_of_listed(w->at[i]))); /* no memory: 500 */
	reply_json(x, 200, fields, page);
}

static void list(struct http_exchange *x, struct api *api, struct list_query *q)
{
	struct walk w = { .q = q };

	manager_each(api->m, visit, &w);
	if (q->ascending)
		reverse(&w);
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
	if (take_param(http_exchange_head(x)->query, "metadata", &q.metadata, &e) < 0)
		reply_error(x, &e);
	else
		list(x, arg, &q);
}
