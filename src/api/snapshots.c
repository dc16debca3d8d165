/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /sandboxes/{id}/snapshots and GET /snapshots; what is deleted, or looked at by itself, is as
 * a template (templates.c). Their object `vivarium` is ours. The newest come first; a page token is
 * the place of the last one of the page before, <created>-<id>.
 */
#include "sandbox/snapshots.h"
#include "api/api-internal.h"
#include "api/body.h"
#include "api/late-reply.h"
#include "api/query.h"
#include "base/clock.h"
#include "base/str.h"

enum { LIST_LIMIT_MAX = 100 };

static json_t *own_fields(const struct snapshot *s)
{
	const struct checkpoint *c = &s->checkpoint;

	if (err_is_set(&s->fault))
		return json_pack("{s:o}", "error", json_of_text(s->fault.msg));
	return json_pack("{s:o, s:s, s:s, s:b, s:i, s:I, s:I, s:I, s:I, s:s, s:s}", "createdAt",
			 json_of_time(s->created_ms), "sandboxID", s->source.s, "template",
			 s->template_name, "named", s->named, "cpus", c->cpus, "memoryMB",
			 (json_int_t)c->memory_mib, "diskSizeMB", (json_int_t)c->disk_mib,
			 "memoryBytes", (json_int_t)c->memory.file_bytes, "allocatedBytes",
			 (json_int_t)s->bytes, "vmm", c->vmm, "kernel", c->kernel_version);
}

json_t *json_of_snapshot(const struct snapshot *s)
{
	char id[SNAPSHOT_ID_SIZE];
	json_t *names = json_array();

	snapshot_id(s, id);
	if (s->named)
		ignore_err(json_array_append_new(names, json_string(id))); /* no memory: 500 */
	return json_pack("{s:s, s:o, s:o}", "snapshotID", id, "names", names, "vivarium",
			 own_fields(s));
}

static void on_made(const struct snapshot *s, const struct taken *t, const struct err *e, void *arg)
{
	struct http_exchange *x = late_reply_take(arg);
	json_t *o;

	if (x == NULL)
		return;
	if (e != NULL) {
		reply_error(x, e);
		return;
	}
	o = json_of_snapshot(s);
	if (t != NULL)
		ignore_err(json_object_set_new(json_object_get(o, "vivarium"), "stallMs",
					       json_real((double)t->stall_ns / NS_PER_MS)));
	reply_json(x, 201, NULL, o);
}

static int start(struct http_exchange *x, struct sandbox *sb, const json_t *body, struct err *e)
{
	const json_t *name = json_object_get(body, "name");
	struct late_reply *late;
	int r;

	if (name != NULL && !json_is_string(name) && !json_is_null(name))
		return err_set(e, ERR_INVALID, "field 'name' must be a string");
	late = late_reply_new(x);
	r = sandbox_snapshot(sb, json_string_value(name), on_made, late, e);
	if (r < 0)
		late_reply_take(late);
	return r;
}

static void create_body(struct http_exchange *x, const char *text, size_t n, void *arg)
{
	auto_json *body = NULL;
	struct err e = { 0 };
	struct sandbox *sb = api_find(arg, x, &e);

	if (sb == NULL || body_object(text, n, true, &body, &e) < 0 || start(x, sb, body, &e) < 0)
		reply_error(x, &e);
}

void snapshots_create(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, create_body, arg);
}

struct list_query {
	char *sandbox; /* id of the source; NULL = any; owned */
	struct snapshot_name name;
	bool named;     /* only those of @name */
	bool nothing;   /* what is asked for names none */
	bool continued; /* behind this place */
	uint64_t after_ms;
	char after_id[SNAPSHOT_ID_SIZE];
	uint64_t limit;
};

static void list_query_done(struct list_query *q)
{
	free_ptr(&q->sandbox);
}

static int list_query_parse(const char *query, struct list_query *q, struct err *e)
{
	auto_free char *name = NULL;
	int r = query_text(query, "sandboxID", &q->sandbox, e);

	q->limit = LIST_LIMIT_MAX;
	if (r == 0)
		r = query_text(query, "name", &name, e);
	if (r == 0)
		r = query_u64(query, "limit", 1, LIST_LIMIT_MAX, &q->limit, e);
	if (r >= 0)
		r = query_page(query, &q->after_ms, q->after_id, sizeof(q->after_id), e);
	if (r < 0)
		return r;
	q->continued = r > 0;
	q->named = name != NULL && name[0] != '\0';
	q->nothing = q->named && snapshot_name_parse(name, &q->name, NULL) < 0;
	return 0;
}

/* Whether the place of @s in the list is behind that of the page token. */
static bool is_behind(const struct list_query *q, const struct snapshot *s)
{
	char id[SNAPSHOT_ID_SIZE];

	snapshot_id(s, id);
	if (s->created_ms != q->after_ms)
		return s->created_ms < q->after_ms;
	return strcmp(id, q->after_id) < 0;
}

static bool is_wanted(const struct list_query *q, const struct snapshot *s)
{
	if (q->nothing || (q->continued && !is_behind(q, s)))
		return false;
	if (q->sandbox != NULL && q->sandbox[0] != '\0' && !streq(q->sandbox, s->source.s))
		return false;
	if (!q->named)
		return true;
	return streq(q->name.name, s->id.name) &&
	       (q->name.tag[0] == '\0' || streq(q->name.tag, s->id.tag));
}

static void reply_page(struct http_exchange *x, const struct list_query *q,
		       const struct snapshot_views *all)
{
	json_t *page = json_array();
	const struct snapshot *last = NULL;
	char token[PAGE_TOKEN_SIZE];
	char id[SNAPSHOT_ID_SIZE];
	struct http_field fields[2] = { { 0 } };

	vec_foreach (s, all) {
		if (!is_wanted(q, *s))
			continue;
		if (last != NULL && json_array_size(page) == q->limit) {
			snapshot_id(last, id);
			page_token(last->created_ms, id, token);
			fields[0] = (struct http_field){ "X-Next-Token", token };
			break;
		}
		last = *s;
		ignore_err(json_array_append_new(page, json_of_snapshot(*s))); /* no memory: 500 */
	}
	reply_json(x, 200, fields, page);
}

void snapshots_list(struct http_exchange *x, const struct route_params *p, void *arg)
{
	cleanup(list_query_done) struct list_query q = { 0 };
	struct api *api = arg;
	struct snapshot_views all;
	struct err e = { 0 };

	(void)p;
	if (list_query_parse(http_exchange_head(x)->query, &q, &e) < 0) {
		reply_error(x, &e);
		return;
	}
	all = snapshots_all(api->m);
	reply_page(x, &q, &all);
	snapshot_views_done(&all);
}
