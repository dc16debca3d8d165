/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the store share: the open database and its statements. */
#pragma once

#include "store/events.h"

#include <sqlite3.h>

enum {
	DB_APPLICATION_ID = 0x76697661
}; /* "viva"; file(1) and other programs tell the file by it */

enum db_stmt {
	STMT_INSTANCE_GET,
	STMT_INSTANCE_INSERT,
	STMT_INSTANCE_SET_NET_BLOCK,
	STMT_SANDBOX_INSERT,
	STMT_SANDBOX_UPDATE,
	STMT_SANDBOX_DELETE,
	STMT_SANDBOX_EACH,
	STMT_SANDBOX_BY_NAME,
	STMT_KEY_INSERT,
	STMT_KEY_EACH,
	STMT_KEY_USED,
	STMT_KEY_DELETE,
	STMT_EVENT_EACH,
	STMT_EVENT_LAST,
	STMT_POOL_SET,
	STMT_POOL_EACH,
	STMT_POOL_DELETE,
	STMT_WEBHOOK_INSERT,
	STMT_WEBHOOK_UPDATE,
	STMT_WEBHOOK_DELETE,
	STMT_WEBHOOK_EACH,
	STMT_WEBHOOK_WAITING,
	STMT_DELIVERY_EACH,
	STMT_DELIVERY_NEXT,
	STMT_DELIVERY_DONE,
	STMT_DELIVERY_HURRY,
	STMT_EVENT_FACTS,
	STMT_N
};

struct db {
	sqlite3 *sql;
	char *path;
	sqlite3_stmt *stmts[STMT_N]; /* prepared once; reset after each use */
	struct db_watch *watches;    /* who is told of changes */
};

/* Migration N brings a file of version N to N + 1; never changed once released, only added to. */
extern const char *const schema_migrations[];

/** schema_version() - the version that this program writes: the number of migrations */
unsigned schema_version(void);

/**
 * db_fail() - set an error from the last failure of SQLite
 * @fmt:	printf format of what was attempted
 *
 * Return: -errno that fits it (-EBUSY locked, -ENOSPC full, -EBADMSG corrupt, …).
 */
int db_fail(struct db *db, struct err *e, const char *fmt, ...) printf_like(3, 4);

/** db_prepare() - prepare a statement that stays. Return: 0; -errno with @e set */
must_check int db_prepare(struct db *db, enum db_stmt which, const char *sql, struct err *e);

/** rows_prepare() - prepare the statements of rows.c. Return: 0; -errno with @e set */
must_check int rows_prepare(struct db *db, struct err *e);

/** keys_prepare() - prepare the statements of keys.c. Return: 0; -errno with @e set */
must_check int keys_prepare(struct db *db, struct err *e);

/** events_prepare() - prepare the statements of events.c. Return: 0; -errno with @e set */
must_check int events_prepare(struct db *db, struct err *e);

/** pools_prepare() - prepare the statements of pools.c. Return: 0; -errno with @e set */
must_check int pools_prepare(struct db *db, struct err *e);

/** webhooks_prepare() - prepare the statements of webhooks.c. Return: 0; -errno with @e set */
must_check int webhooks_prepare(struct db *db, struct err *e);

/** db_text_at() - a column's text, "" for none; borrowed until the statement goes on */
const char *db_text_at(sqlite3_stmt *stmt, int column);

/** db_number_at() - a column's number, 0 for none */
uint64_t db_number_at(sqlite3_stmt *stmt, int column);

/** db_event_at() - the event that is in the first nine columns, in the order of its fields; its
 * strings are borrowed until the statement goes on */
struct db_event db_event_at(sqlite3_stmt *stmt);

/** stmt_done() - clean-up handler: reset a statement and drop what was bound to it */
void stmt_done(sqlite3_stmt **stmt);

#define auto_stmt cleanup(stmt_done) sqlite3_stmt
