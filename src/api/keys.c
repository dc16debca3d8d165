/* SPDX-License-Identifier: Apache-2.0 */
/*
 * API keys: made, listed and deleted, over the unix socket only, so that a key that got lost cannot
 * make others. A key is shown in the reply that makes it and never again; the store has its hash.
 */
#include "api/access.h"
#include "api/body.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/str.h"

enum { KEYS_MAX = 1000 };

/* Whether keys may be touched; else the request is answered. */
static bool check_local(struct http_exchange *x)
{
	if (access_is_local(x))
		return true;
	reply_json(x, 403, NULL,
		   json_pack("{s:i, s:s, s:s}", "code", 403, "message",
			     "keys are made, listed and deleted over vivd's unix socket only: use "
			     "`viv key` on its machine",
			     "error_code", "forbidden"));
	return false;
}

static json_t *json_of_key(const struct db_key *key)
{
	return json_pack("{s:s, s:s, s:s, s:o, s:o}", "id", key->id, "name", key->name, "prefix",
			 key->prefix, "createdAt", json_of_time(key->created_ms), "lastUsedAt",
			 json_of_time(key->last_used_ms));
}

static int add_key(const struct db_key *key, void *list)
{
	return json_array_append_new(list, json_of_key(key));
}

static int count_key(const struct db_key *key, void *n)
{
	(void)key;
	(*(size_t *)n)++;
	return 0;
}

int api_check_keys(struct api *api, struct err *e)
{
	size_t n = 0;
	int r = db_key_each(manager_store(api->m), count_key, &n, e);

	if (r == 0 && n == 0)
		r = err_set(e, ERR_INVALID,
			    "TCP is not served as long as there is no API key, since every request "
			    "needs one; start vivd without the setting listen, make a key with "
			    "`viv key create`, then start vivd with it again");
	return r;
}

/* A new key, of which @text is the only copy. */
static void generate(struct db_key *key, char text[KEY_TEXT_SIZE])
{
	char id[KEY_ID_LEN];
	char hex[KEY_HEX_LEN + 1];

	random_hex(id, sizeof(id) - 1);
	random_hex(hex, KEY_HEX_LEN);
	snprintf(key->id, sizeof(key->id), "k%s", id);
	snprintf(text, KEY_TEXT_SIZE, "e2b_%s", hex);
	str_copy(key->prefix, sizeof(key->prefix), text);
	access_hash(text, key->hash);
	key->created_ms = clock_realtime_ms();
}

/* The name that is asked for; without one, the key's id. */
static int take_name(const json_t *body, struct db_key *key, struct err *e)
{
	const json_t *name = json_object_get(body, "name");

	if (name == NULL || json_is_null(name)) {
		str_copy(key->name, sizeof(key->name), key->id);
		return 0;
	}
	if (!json_is_string(name) || !name_valid(json_string_value(name)))
		return err_set(e, ERR_INVALID,
			       "field 'name' must be 1 to %d characters of a-z, 0-9, '_', '.' and "
			       "'-', the first of them a letter or digit",
			       NAME_MAX_LEN);
	str_copy(key->name, sizeof(key->name), json_string_value(name));
	return 0;
}

static int insert(struct db *db, const struct db_key *key, struct err *e)
{
	size_t n = 0;
	int r = db_key_each(db, count_key, &n, e);

	if (r == 0 && n >= KEYS_MAX)
		r = err_set(e, ERR_LIMITED, "there are %d keys already: delete some first",
			    KEYS_MAX);
	return r < 0 ? r : db_key_insert(db, key, e);
}

static void create_body(struct http_exchange *x, const char *body, size_t n, void *arg)
{
	struct api *api = arg;
	auto_json *o = NULL;
	struct db_key key = { 0 };
	char text[KEY_TEXT_SIZE];
	struct err e = { 0 };
	json_t *reply;

	generate(&key, text);
	if (body_object(body, n, true, &o, &e) < 0 || take_name(o, &key, &e) < 0 ||
	    insert(manager_store(api->m), &key, &e) < 0) {
		reply_error(x, &e);
		return;
	}
	log_info("key.created", kv_str("id", key.id), kv_str("name", key.name));
	reply = json_of_key(&key);
	if (reply != NULL && json_object_set_new(reply, "key", json_string(text)) < 0) {
		json_decref(reply);
		reply = NULL;
	}
	reply_json(x, 201, NULL, reply);
}

void keys_create(struct http_exchange *x, const struct route_params *p, void *arg)
{
	(void)p;
	if (check_local(x))
		http_body_collect(x, API_BODY_MAX, create_body, arg);
}

void keys_list(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	auto_json *list = json_array();
	struct err e = { 0 };

	(void)p;
	if (!check_local(x))
		return;
	if (db_key_each(manager_store(api->m), add_key, list, &e) < 0) {
		err_set(&e, ERR_INTERNAL, "no memory for the list of keys");
		reply_error(x, &e);
		return;
	}
	reply_json(x, 200, NULL, json_incref(list));
}

void keys_delete(struct http_exchange *x, const struct route_params *p, void *arg)
{
	struct api *api = arg;
	struct err e = { 0 };

	if (!check_local(x))
		return;
	if (db_key_delete(manager_store(api->m), p->at[0], &e) < 0) {
		reply_error(x, &e);
		return;
	}
	log_info("key.deleted", kv_str("key", p->at[0]));
	reply_empty(x);
}
