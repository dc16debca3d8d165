/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Webhooks, in E2B's form: made, listed, changed, deleted. What is posted to them is not done here;
 * who posts sees in the store what is asked for (store/webhooks.h).
 */
#include "api/api-internal.h"
#include "api/body.h"
#include "api/webhook-request.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"

#include <errno.h>

enum { SECRET_HEX_LEN = 64 };

static json_t *json_of_kinds(const char *kinds)
{
	json_t *list = json_array();

	for (const char *at = kinds + strspn(kinds, " "); *at != '\0'; at += strspn(at, " ")) {
		size_t n = strcspn(at, " ");
		auto_free char *type = str_printf(EVENT_TYPE_PREFIX "%.*s", (int)n, at);

		ignore_err(json_array_append_new(list, json_string(type))); /* as json_pack() */
		at += n;
	}
	return list;
}

/* The secret is shown by nobody. */
static json_t *json_of_webhook(struct db *db, const struct db_webhook *w)
{
	uint64_t waiting = 0;

	if (db_webhook_waiting(db, w->id, &waiting, NULL) < 0)
		return NULL;
	return json_pack("{s:s, s:s, s:s, s:b, s:o, s:o, s:{s:I, s:o, s:I, s:o, s:o, s:I, s:I}}",
			 "id", w->id, "name", w->name, "url", w->url, "enabled", w->enabled,
			 "events", json_of_kinds(w->kinds), "createdAt",
			 json_of_time(w->created_ms), "vivarium", "delivered",
			 (json_int_t)w->delivered, "deliveredAt", json_of_time(w->delivered_ms),
			 "failed", (json_int_t)w->failed, "failedAt", json_of_time(w->failed_ms),
			 "lastError", json_of_text(w->last_error), "dropped",
			 (json_int_t)w->dropped, "waiting", (json_int_t)waiting);
}

/* What a walk over webhooks makes JSON of. */
struct view {
	struct db *db;
	json_t *json; /* owned; an array, or of the one that is asked for */
};

static void view_done(struct view *v)
{
	json_decref(v->json);
}

static int set_json(const struct db_webhook *w, void *arg)
{
	struct view *v = arg;

	v->json = json_of_webhook(v->db, w);
	return v->json != NULL ? 0 : -ENOMEM;
}

static int add_json(const struct db_webhook *w, void *arg)
{
	struct view *v = arg;

	return json_array_append_new(v->json, json_of_webhook(v->db, w));
}

static int count(const struct db_webhook *w, void *n)
{
	(void)w;
	(*(size_t *)n)++;
	return 0;
}

/* The webhook as it is now, new reference; NULL with @e set. */
static json_t *read_webhook(struct api *api, const char *id, struct err *e)
{
	struct view v = { .db = manager_store(api->m) };

	if (db_webhook_each(v.db, id, set_json, &v, e) < 0)
		err_set(e, ERR_INTERNAL, "no memory for a webhook");
	else if (v.json == NULL)
		err_set(e, ERR_NOT_FOUND, "no webhook '%.80s'", id);
	return v.json;
}

void api_allow_webhooks(struct api *api, bool any_address)
{
	api->webhooks = true;
	api->any_address = any_address;
}

static int check_room(struct api *api, struct err *e)
{
	size_t n = 0;

	if (!api->webhooks)
		return err_set(
			e, ERR_UNSUPPORTED,
			"this vivd has no viv-hook, which posts to webhooks: it is built where "
			"libcurl is (Debian's libcurl4-openssl-dev)");
	if (db_webhook_each(manager_store(api->m), NULL, count, &n, e) < 0)
		return -EIO;
	return n < WEBHOOKS_MAX
		       ? 0
		       : err_set(e, ERR_LIMITED, "there are %d webhooks already: delete some first",
				 WEBHOOKS_MAX);
}

/* Return: what is answered, new reference; NULL with @e set. */
static json_t *create(struct api *api, const struct webhook_request *request, struct err *e)
{
	char id[WEBHOOK_ID_LEN + 1] = "w";
	char secret[SECRET_HEX_LEN + 1];
	struct db_webhook w = {
		.id = id,
		.name = request->name != NULL ? request->name : "",
		.url = request->url,
		.secret = request->secret != NULL ? request->secret : secret,
		.kinds = request->kinds != NULL ? request->kinds : EVENT_TYPES,
		.enabled = request->enabled,
		.created_ms = clock_realtime_ms(),
	};
	json_t *o;

	if (request->url == NULL) {
		err_set(e, ERR_INVALID, "field 'url' is missing: where to post to");
		return NULL;
	}
	random_hex(id + 1, WEBHOOK_ID_LEN - 1);
	random_hex(secret, SECRET_HEX_LEN);
	if (check_room(api, e) < 0 || db_webhook_insert(manager_store(api->m), &w, e) < 0)
		return NULL;
	log_info("webhook.created", kv_str("id", id), kv_str("url", w.url));
	o = read_webhook(api, id, e);
	if (o != NULL && request->secret == NULL)
		ignore_err(json_object_set_new(o, "signatureSecret", json_string(secret)));
	return o;
}

static void create_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	cleanup(webhook_request_done) struct webhook_request request = { .kinds = NULL };
	struct api *api = arg;
	auto_json *o = NULL;
	struct err e = { 0 };
	json_t *reply = NULL;

	if (body_object(body, n, false, &o, &e) == 0 &&
	    webhook_request_read(o, api->any_address, &request, &e) == 0)
		reply = create(api, &request, &e);
	if (reply != NULL)
		reply_json(x, 201, NULL, reply);
	else
		reply_error(x, &e);
}

void webhooks_create(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, create_body, arg);
}

void webhooks_list(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	cleanup(view_done) struct view v = { manager_store(api->m), json_array() };
	struct err e = { 0 };

	(void)p;
	if (db_webhook_each(v.db, NULL, add_json, &v, &e) < 0) {
		err_set(&e, ERR_INTERNAL, "no memory for the list of webhooks");
		reply_error(x, &e);
		return;
	}
	reply_json(x, 200, NULL, take_ptr(&v.json));
}

void webhooks_get(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct err e = { 0 };
	json_t *o = read_webhook(arg, p->at[0], &e);

	if (o != NULL)
		reply_json(x, 200, NULL, o);
	else
		reply_error(x, &e);
}

/* What a change needs within the walk that has the webhook's strings. */
struct change {
	struct api *api;
	const struct webhook_request *request;
	struct err *e;
};

static int change_webhook(const struct db_webhook *now, void *arg)
{
	struct change *c = arg;
	const struct webhook_request *request = c->request;
	struct db_webhook w = *now;

	if (request->name != NULL)
		w.name = request->name;
	if (request->url != NULL)
		w.url = request->url;
	if (request->secret != NULL)
		w.secret = request->secret;
	if (request->kinds != NULL)
		w.kinds = request->kinds;
	if (request->has_enabled)
		w.enabled = request->enabled;
	return db_webhook_update(manager_store(c->api->m), &w, c->e);
}

static void patch_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	cleanup(webhook_request_done) struct webhook_request request = { .kinds = NULL };
	struct api *api = arg;
	struct route_params params;
	auto_json *o = NULL;
	struct err e = { 0 };
	struct change change = { .api = api, .request = &request, .e = &e };
	json_t *reply = NULL;

	if (api_params(http_exchange_head(x), &params) == 0 &&
	    body_object(body, n, false, &o, &e) == 0 &&
	    webhook_request_read(o, api->any_address, &request, &e) == 0 &&
	    db_webhook_each(manager_store(api->m), params.at[0], change_webhook, &change, &e) == 0)
		reply = read_webhook(api, params.at[0], &e);
	if (reply != NULL)
		reply_json(x, 200, NULL, reply);
	else
		reply_error(x, &e);
}

void webhooks_patch(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	http_body_collect(x, API_BODY_MAX, patch_body, arg);
}

/* 200, as E2B's clients look for. */
void webhooks_delete(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct err e = { 0 };

	if (db_webhook_delete(manager_store(api->m), p->at[0], &e) < 0) {
		reply_error(x, &e);
		return;
	}
	log_info("webhook.deleted", kv_str("id", p->at[0]));
	reply_json(x, 200, NULL, json_pack("{s:s}", "id", p->at[0]));
}
