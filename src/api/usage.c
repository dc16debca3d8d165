/* SPDX-License-Identifier: Apache-2.0 */
/* GET /df: what takes room. POST /prune {"dryRun": true}: remove what nothing uses. */
#include "sandbox/usage.h"
#include "api/api-internal.h"
#include "api/host-request.h"
#include "api/late-reply.h"
#include "base/str.h"

static json_t *json_of_cached(const struct cache_item *item)
{
	return json_pack("{s:s, s:o, s:I, s:b, s:o}", "kind", cache_kind_name(item->kind), "name",
			 json_of_text(item->name), "bytes", (json_int_t)item->bytes, "unused",
			 item->needed == NULL, "why",
			 item->needed != NULL ? json_of_text(item->needed) : json_null());
}

static json_t *json_of_place(const char *path, uint64_t free_bytes)
{
	return json_pack("{s:o, s:I}", "path", json_of_text(path), "freeBytes",
			 (json_int_t)free_bytes);
}

/* Of the host's memory, what sandboxes that have a VM are counted as. */
static json_t *json_of_memory(const struct room_memory *m)
{
	return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "totalMB", (json_int_t)m->total,
			 "availableMB", (json_int_t)m->available, "reserveMB",
			 (json_int_t)m->reserve, "ownMB", (json_int_t)m->own, "countedMB",
			 (json_int_t)m->committed, "mostMB", (json_int_t)room_most(m));
}

static json_t *json_of_usage(const struct usage *u)
{
	json_t *items = json_array();
	json_t *sandboxes = json_array();
	json_t *snapshots = json_array();

	/* Without memory for a part, what is packed of it fails: 500. */
	vec_foreach (item, &u->cache)
		ignore_err(json_array_append_new(items, json_of_cached(item)));
	vec_foreach (s, &u->sandboxes)
		ignore_err(json_array_append_new(
			sandboxes, json_pack("{s:s, s:s, s:b, s:s, s:I}", "sandboxID", s->id.s,
					     "name", s->name, "known", s->known, "pool", s->pool,
					     "bytes", (json_int_t)s->bytes)));
	vec_foreach (s, &u->snapshots)
		ignore_err(json_array_append_new(snapshots,
						 json_pack("{s:s, s:I}", "snapshotID", s->name,
							   "bytes", (json_int_t)s->bytes)));
	return json_pack("{s:o, s:o, s:o, s:I, s:o, s:o, s:I, s:o}", "items", items, "sandboxes",
			 sandboxes, "snapshots", snapshots, "runBytes", (json_int_t)u->run_bytes,
			 "stateDir", json_of_place(u->state_dir, u->state_free_bytes), "runDir",
			 json_of_place(u->run_dir, u->run_free_bytes), "reserveBytes",
			 (json_int_t)u->state_reserve_bytes, "memory", json_of_memory(&u->memory));
}

static void on_usage(const struct usage *usage, const struct err *e, void *arg)
{
	struct http_exchange *x = late_reply_take(arg);

	if (x != NULL && usage != NULL)
		reply_json(x, 200, NULL, json_of_usage(usage));
	else if (x != NULL)
		reply_error(x, e);
}

void usage_get(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct late_reply *late = late_reply_new(x);
	struct err e = { 0 };

	(void)p;
	if (usage_start(api->m, on_usage, late, &e) == 0)
		return;
	late_reply_take(late);
	reply_error(x, &e);
}

static json_t *json_of_pruned(const struct prune_item *item)
{
	return json_pack("{s:s, s:o, s:I, s:o}", "kind", cache_kind_name(item->kind), "name",
			 json_of_text(item->name), "bytes", (json_int_t)item->bytes, "why",
			 item->why != NULL ? json_of_text(item->why) : json_null());
}

static void on_pruned(const struct prune_items *items, const struct err *e, void *arg)
{
	struct http_exchange *x = late_reply_take(arg);
	json_t *lists[] = { [PRUNE_REMOVED] = json_array(),
			    [PRUNE_KEPT] = json_array(),
			    [PRUNE_FAILED] = json_array() };
	json_t *reply;
	uint64_t bytes = 0;

	for (size_t i = 0; items != NULL && i < items->n; i++) {
		const struct prune_item *item = &items->at[i];

		ignore_err(json_array_append_new(lists[item->outcome],
						 json_of_pruned(item))); /* no memory: 500 */
		bytes += item->outcome == PRUNE_REMOVED ? item->bytes : 0;
	}
	reply = json_pack("{s:o, s:o, s:o, s:I}", "removed", lists[PRUNE_REMOVED], "kept",
			  lists[PRUNE_KEPT], "failed", lists[PRUNE_FAILED], "bytes",
			  (json_int_t)bytes);
	if (x != NULL && items != NULL)
		reply_json(x, 200, NULL, json_incref(reply));
	else if (x != NULL)
		reply_error(x, e);
	json_decref(reply);
}

static int parse_prune(const char *body, size_t n, bool *out_dry_run, struct err *e)
{
	auto_json *o = n == 0 ? json_object() : json_loadb(body, n, JSON_REJECT_DUPLICATES, NULL);
	json_error_t why;
	int dry_run = 0;

	if (o == NULL)
		return err_set(e, ERR_INVALID, "the body is not JSON");
	if (json_unpack_ex(o, &why, JSON_STRICT, "{s?b}", "dryRun", &dry_run) < 0)
		return err_set(e, ERR_INVALID, "the body can have 'dryRun', true or false: %s",
			       why.text);
	*out_dry_run = dry_run != 0;
	return 0;
}

static void on_prune_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	struct api *api = arg;
	struct late_reply *late;
	struct err e = { 0 };
	bool dry_run = false;

	if (!host_check_local(x))
		return;
	if (parse_prune(body, n, &dry_run, &e) < 0) {
		reply_error(x, &e);
		return;
	}
	late = late_reply_new(x);
	if (prune_start(api->m, dry_run, on_pruned, late, &e) == 0)
		return;
	late_reply_take(late);
	reply_error(x, &e);
}

void prune_post(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, on_prune_body, arg);
}
