/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keys of API clients, as the store knows them: not the key itself, which only its holder has,
 * but its SHA-256. A plain hash is right here: a key is 160 random bits, so there is nothing that a
 * slow hash or a salt could protect from guessing, as there would be with a password.
 */
#pragma once

#include "store/db.h"

enum { KEY_ID_LEN = 13, KEY_PREFIX_LEN = 8, KEY_HASH_BYTES = 32 };

struct db_key {
	char id[KEY_ID_LEN + 1]; /* 'k' and hex digits */
	char name[NAME_MAX_LEN + 1];
	char prefix[KEY_PREFIX_LEN + 1]; /* how the key begins, by which people tell it */
	unsigned char hash[KEY_HASH_BYTES];
	uint64_t created_ms;   /* CLOCK_REALTIME */
	uint64_t last_used_ms; /* to the minute; 0 = never */
};

/** db_key_insert() - keep a key. Return: 0; -EEXIST with ERR_CONFLICT: another has this id or name;
 * -errno with @e set */
must_check int db_key_insert(struct db *db, const struct db_key *key, struct err *e);

/** db_key_each() - read all keys in order of creation; @fn ends the walk with < 0, and does not
 * change the store. Return: 0; what @fn returned; -errno with @e set */
must_check int db_key_each(struct db *db, int (*fn)(const struct db_key *key, void *arg), void *arg,
			   struct err *e);

/** db_key_used() - record when a key was used last. Return: 0 (also if absent); -errno with @e set
 */
must_check int db_key_used(struct db *db, const char *id, uint64_t now_ms, struct err *e);

/** db_key_delete() - forget a key by id or name. Return: 0; -ENOENT with ERR_NOT_FOUND; -errno with
 * @e set */
must_check int db_key_delete(struct db *db, const char *id_or_name, struct err *e);
