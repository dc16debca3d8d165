/* SPDX-License-Identifier: Apache-2.0 */
#include "store/events.h"

#include "base/str.h"
#include "store/db-internal.h"

int events_prepare(struct db *db, struct err *e)
{
	int r = db_prepare(db, STMT_EVENT_EACH,
			   "SELECT id, at_ms, type, sandbox, name, template_name, cause, error,"
			   " generation FROM event WHERE id > ?1 AND (?3 IS NULL OR sandbox = ?3)"
			   " ORDER BY id LIMIT ?2",
			   e);

	return r < 0 ? r
		     : db_prepare(db, STMT_EVENT_LAST,
				  "SELECT coalesce(max(seq), 0) FROM sqlite_sequence"
				  " WHERE name = 'event'",
				  e);
}

const char *db_text_at(sqlite3_stmt *stmt, int column)
{
	const char *text = (const char *)sqlite3_column_text(stmt, column);

	return text != NULL ? text : "";
}

uint64_t db_number_at(sqlite3_stmt *stmt, int column)
{
	return (uint64_t)sqlite3_column_int64(stmt, column);
}

struct db_event db_event_at(sqlite3_stmt *stmt)
{
	return (struct db_event){
		.id = db_number_at(stmt, 0),
		.at_ms = db_number_at(stmt, 1),
		.type = db_text_at(stmt, 2),
		.sandbox = db_text_at(stmt, 3),
		.name = db_text_at(stmt, 4),
		.template_name = db_text_at(stmt, 5),
		.cause = db_text_at(stmt, 6),
		.error = db_text_at(stmt, 7),
		.generation = db_number_at(stmt, 8),
	};
}

int db_event_each(struct db *db, const struct db_event_query *q,
		  int (*fn)(const struct db_event *event, void *arg), void *arg, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_EVENT_EACH];
	int rc;

	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)q->after);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)q->limit);
	if (q->sandbox != NULL)
		sqlite3_bind_text(stmt, 3, q->sandbox, -1, SQLITE_STATIC);
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const struct db_event event = db_event_at(stmt);
		int r = fn(&event, arg);

		if (r < 0)
			return r;
	}
	return rc == SQLITE_DONE ? 0 : db_fail(db, e, "read events");
}

int db_event_last(struct db *db, uint64_t *out, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_EVENT_LAST];

	if (sqlite3_step(stmt) != SQLITE_ROW)
		return db_fail(db, e, "read the last event");
	*out = db_number_at(stmt, 0);
	return 0;
}

static void on_change(void *arg, int operation, const char *database, const char *table,
		      sqlite3_int64 rowid)
{
	const struct db *db = arg;
	enum db_watched what;

	(void)database;
	(void)rowid;
	if (operation == SQLITE_INSERT && streq(table, "event"))
		what = DB_WATCH_EVENTS;
	else if (streq(table, "webhook"))
		what = DB_WATCH_WEBHOOKS;
	else
		return;
	for (const struct db_watch *w = db->watches; w != NULL; w = w->next) {
		if ((w->what & what) != 0)
			w->fn(w->arg);
	}
}

void db_watch_add(struct db *db, struct db_watch *watch)
{
	watch->next = db->watches;
	db->watches = watch;
	sqlite3_update_hook(db->sql, on_change, db);
}

void db_watch_remove(struct db *db, struct db_watch *watch)
{
	struct db_watch **at = &db->watches;

	while (*at != NULL && *at != watch)
		at = &(*at)->next;
	if (*at != NULL)
		*at = watch->next;
}
