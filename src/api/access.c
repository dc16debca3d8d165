/* SPDX-License-Identifier: Apache-2.0 */
#include "api/access.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/sha256.h"
#include "base/str.h"

#include <strings.h>

/* A use is written down once a minute: each write is a disk's flush, on the loop. */
enum { USED_GRAIN_MS = 60000 };

struct search {
	unsigned char hash[KEY_HASH_BYTES];
	struct db_key found; /* id "" = none */
};

bool access_is_local(const struct http_exchange *x)
{
	return http_exchange_peer_uid(x) >= 0;
}

void access_hash(const char *key, unsigned char out[KEY_HASH_BYTES])
{
	struct sha256 sha;

	static_assert((int)KEY_HASH_BYTES == (int)SHA256_BYTES, "a hash is a SHA-256");
	sha256_init(&sha);
	sha256_add(&sha, key, strlen(key));
	sha256_end(&sha, out);
}

/* Goes on behind a match, and compares all bytes: the time tells nothing. */
static int compare(const struct db_key *key, void *arg)
{
	struct search *s = arg;

	if (secret_equal(key->hash, s->hash, sizeof(s->hash)))
		s->found = *key;
	return 0;
}

static const char *key_of(const struct http_head *head)
{
	static const char bearer[] = "Bearer ";
	const char *key = http_head_get(head, "X-API-KEY");
	const char *authorization = http_head_get(head, "Authorization");

	if (key != NULL)
		return key;
	if (authorization == NULL || strncasecmp(authorization, bearer, strlen(bearer)) != 0)
		return NULL;
	return authorization + strlen(bearer);
}

static void record_use(struct db *db, const struct db_key *key)
{
	uint64_t now = clock_realtime_ms();
	struct err e = { 0 };

	if (now < key->last_used_ms + USED_GRAIN_MS)
		return;
	if (db_key_used(db, key->id, now, &e) < 0)
		log_warning("key.use_not_recorded", kv_str("id", key->id), kv_str("error", e.msg));
}

bool access_check(struct api *api, struct http_exchange *x)
{
	const char *key = key_of(http_exchange_head(x));
	struct db *db = manager_store(api->m);
	struct search s = { .found = { .id = "" } };
	struct err e = { 0 };

	if (access_is_local(x))
		return true;
	if (key != NULL) {
		access_hash(key, s.hash);
		if (db_key_each(db, compare, &s, &e) < 0) {
			reply_error(x, &e);
			return false;
		}
	}
	if (s.found.id[0] == '\0') {
		err_set(&e, ERR_UNAUTHORIZED,
			key == NULL ? "the API over TCP needs a key: send the header X-API-KEY "
				      "(`viv key create` makes one)"
				    : "the API key is not known (`viv key ls` lists the keys)");
		reply_error(x, &e);
		return false;
	}
	record_use(db, &s.found);
	return true;
}
