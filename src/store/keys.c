/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of API keys. */
#include "store/keys.h"

#include "base/str.h"
#include "store/db-internal.h"

#include <errno.h>

int keys_prepare(struct db *db, struct err *e)
{
	int r = db_prepare(db, STMT_KEY_INSERT,
			   "INSERT INTO api_key"
			   " (id, name, prefix, hash, created_ms, last_used_ms)"
			   " SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS"
			   " (SELECT 1 FROM api_key WHERE id IN (?1, ?2) OR name IN (?1, ?2))",
			   e);

	if (r == 0)
		r = db_prepare(db, STMT_KEY_EACH,
			       "SELECT id, name, prefix, hash, created_ms, last_used_ms"
			       " FROM api_key ORDER BY created_ms, id",
			       e);
	if (r == 0)
		r = db_prepare(db, STMT_KEY_USED,
			       "UPDATE api_key SET last_used_ms = ?2 WHERE id = ?1", e);
	if (r == 0)
		r = db_prepare(db, STMT_KEY_DELETE,
			       "DELETE FROM api_key WHERE id = ?1 OR name = ?1", e);
	return r;
}

int db_key_insert(struct db *db, const struct db_key *key, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_KEY_INSERT];

	sqlite3_bind_text(stmt, 1, key->id, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 2, key->name, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 3, key->prefix, -1, SQLITE_STATIC);
	sqlite3_bind_blob(stmt, 4, key->hash, sizeof(key->hash), SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 5, (sqlite3_int64)key->created_ms);
	sqlite3_bind_int64(stmt, 6, (sqlite3_int64)key->last_used_ms);
	if (sqlite3_step(stmt) != SQLITE_DONE)
		return db_fail(db, e, "insert key %s", key->name);
	if (sqlite3_changes(db->sql) > 0)
		return 0;
	err_set(e, ERR_CONFLICT, "there is a key '%s' already", key->name);
	return -EEXIST;
}

static void read_text(sqlite3_stmt *stmt, int column, char *out, size_t size)
{
	const char *text = (const char *)sqlite3_column_text(stmt, column);

	str_copy(out, size, text != NULL ? text : "");
}

static int read_key(struct db *db, sqlite3_stmt *stmt, struct db_key *out, struct err *e)
{
	const void *hash = sqlite3_column_blob(stmt, 3);

	*out = (struct db_key){ .created_ms = db_number_at(stmt, 4),
				.last_used_ms = db_number_at(stmt, 5) };
	read_text(stmt, 0, out->id, sizeof(out->id));
	read_text(stmt, 1, out->name, sizeof(out->name));
	read_text(stmt, 2, out->prefix, sizeof(out->prefix));
	if (hash == NULL || sqlite3_column_bytes(stmt, 3) != KEY_HASH_BYTES)
		return err_set(e, ERR_SYSTEM, "store %s: the hash of key %s has not %d bytes",
			       db->path, out->id, KEY_HASH_BYTES);
	memcpy(out->hash, hash, sizeof(out->hash));
	return 0;
}

int db_key_each(struct db *db, int (*fn)(const struct db_key *key, void *arg), void *arg,
		struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_KEY_EACH];

	for (;;) {
		struct db_key key;
		int r = sqlite3_step(stmt);

		if (r == SQLITE_DONE)
			return 0;
		if (r != SQLITE_ROW)
			return db_fail(db, e, "read keys");
		r = read_key(db, stmt, &key, e);
		if (r == 0)
			r = fn(&key, arg);
		if (r < 0)
			return r;
	}
}

int db_key_used(struct db *db, const char *id, uint64_t now_ms, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_KEY_USED];

	sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)now_ms);
	return sqlite3_step(stmt) == SQLITE_DONE ? 0 : db_fail(db, e, "update key %s", id);
}

int db_key_delete(struct db *db, const char *id_or_name, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_KEY_DELETE];

	sqlite3_bind_text(stmt, 1, id_or_name, -1, SQLITE_STATIC);
	if (sqlite3_step(stmt) != SQLITE_DONE)
		return db_fail(db, e, "delete key %.80s", id_or_name);
	return sqlite3_changes(db->sql) > 0
		       ? 0
		       : err_set(e, ERR_NOT_FOUND, "no key '%.80s'", id_or_name);
}
