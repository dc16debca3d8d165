/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of webhooks and of their lanes; what moves a lane is in schema.c. */
#include "store/webhooks.h"

#include "base/str.h"
#include "store/db-internal.h"

#include <errno.h>
#include <stdlib.h>

static const struct {
	enum db_stmt which;
	const char *sql;
} statements[] = {
	{ STMT_WEBHOOK_INSERT, "INSERT INTO webhook"
			       " (id, name, url, secret, kinds, enabled, created_ms)"
			       " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)" },
	{ STMT_WEBHOOK_UPDATE, "UPDATE webhook SET name = ?2, url = ?3, secret = ?4, kinds = ?5,"
			       " enabled = ?6 WHERE id = ?1" },
	{ STMT_WEBHOOK_DELETE, "DELETE FROM webhook WHERE id = ?1" },
	{ STMT_WEBHOOK_EACH, "SELECT id, name, url, secret, kinds, enabled, created_ms, delivered,"
			     " delivered_ms, failed, failed_ms, last_error, dropped"
			     " FROM webhook WHERE ?1 IS NULL OR id = ?1 ORDER BY created_ms, id" },
	{ STMT_DELIVERY_EACH, "SELECT e.id, e.at_ms, e.type, e.sandbox, e.name, e.template_name,"
			      " e.cause, e.error, e.generation, l.tries"
			      " FROM webhook_lane l JOIN event e ON e.id = l.event"
			      " WHERE l.webhook = ?1 AND l.due_ms <= ?2"
			      " ORDER BY l.due_ms, l.event LIMIT ?3" },
	{ STMT_DELIVERY_NEXT,
	  /* each webhook's is found in an index, however many there are */
	  "SELECT coalesce(min((SELECT min(due_ms) FROM webhook_lane"
	  "  WHERE webhook = w.id AND due_ms > ?1)), 0) FROM webhook w" },
	{ STMT_WEBHOOK_WAITING, "SELECT count(*) FROM webhook_lane WHERE webhook = ?1" },
	{ STMT_DELIVERY_DONE, "INSERT INTO webhook_result"
			      " (webhook, sandbox, event, at_ms, due_ms, error)"
			      " VALUES (?1, ?2, ?3, ?4, ?5, ?6)" },
	{ STMT_DELIVERY_HURRY, "UPDATE webhook_lane SET due_ms = 0 WHERE due_ms != 0" },
	{ STMT_EVENT_FACTS,
	  "WITH run (start) AS (SELECT coalesce(max(id), 0) FROM event WHERE sandbox = ?1"
	  "  AND ((type = 'created' AND id <= ?2)"
	  "    OR (type IN ('paused', 'stopped') AND id < ?2)))"
	  " SELECT coalesce(s.metadata_json, k.metadata_json), coalesce(s.cpus, k.cpus),"
	  "  coalesce(s.memory_mib, k.memory_mib), run.start,"
	  "  (SELECT at_ms FROM event WHERE sandbox = ?1 AND id > run.start AND id < ?2"
	  "    AND type IN ('running', 'resumed') ORDER BY id LIMIT 1)"
	  " FROM run LEFT JOIN sandbox s ON s.id = ?1"
	  "  LEFT JOIN event k ON k.sandbox = ?1 AND k.type = 'killed'" },
};

int webhooks_prepare(struct db *db, struct err *e)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(statements); i++)
		r = db_prepare(db, statements[i].which, statements[i].sql, e);
	return r;
}

static void bind_webhook(sqlite3_stmt *stmt, const struct db_webhook *w)
{
	sqlite3_bind_text(stmt, 1, w->id, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 2, w->name, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 3, w->url, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 4, w->secret, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 5, w->kinds, -1, SQLITE_STATIC);
	sqlite3_bind_int(stmt, 6, w->enabled);
}

int db_webhook_insert(struct db *db, const struct db_webhook *w, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_WEBHOOK_INSERT];

	bind_webhook(stmt, w);
	sqlite3_bind_int64(stmt, 7, (sqlite3_int64)w->created_ms);
	return sqlite3_step(stmt) == SQLITE_DONE ? 0 : db_fail(db, e, "insert webhook %s", w->id);
}

static int no_webhook(const char *id, struct err *e)
{
	return err_set(e, ERR_NOT_FOUND, "no webhook '%.80s'", id);
}

int db_webhook_update(struct db *db, const struct db_webhook *w, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_WEBHOOK_UPDATE];

	bind_webhook(stmt, w);
	if (sqlite3_step(stmt) != SQLITE_DONE)
		return db_fail(db, e, "update webhook %s", w->id);
	return sqlite3_changes(db->sql) > 0 ? 0 : no_webhook(w->id, e);
}

int db_webhook_delete(struct db *db, const char *id, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_WEBHOOK_DELETE];

	sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
	if (sqlite3_step(stmt) != SQLITE_DONE)
		return db_fail(db, e, "delete webhook %.80s", id);
	return sqlite3_changes(db->sql) > 0 ? 0 : no_webhook(id, e);
}

int db_webhook_each(struct db *db, const char *id, int (*fn)(const struct db_webhook *w, void *arg),
		    void *arg, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_WEBHOOK_EACH];
	int rc;

	if (id != NULL)
		sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const struct db_webhook w = {
			.id = db_text_at(stmt, 0),
			.name = db_text_at(stmt, 1),
			.url = db_text_at(stmt, 2),
			.secret = db_text_at(stmt, 3),
			.kinds = db_text_at(stmt, 4),
			.enabled = db_number_at(stmt, 5) != 0,
			.created_ms = db_number_at(stmt, 6),
			.delivered = db_number_at(stmt, 7),
			.delivered_ms = db_number_at(stmt, 8),
			.failed = db_number_at(stmt, 9),
			.failed_ms = db_number_at(stmt, 10),
			.last_error = db_text_at(stmt, 11),
			.dropped = db_number_at(stmt, 12),
		};
		int r = fn(&w, arg);

		if (r < 0)
			return r;
	}
	return rc == SQLITE_DONE ? 0 : db_fail(db, e, "read webhooks");
}

int db_webhook_waiting(struct db *db, const char *id, uint64_t *out, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_WEBHOOK_WAITING];

	sqlite3_bind_text(stmt, 1, id, -1, SQLITE_STATIC);
	if (sqlite3_step(stmt) != SQLITE_ROW)
		return db_fail(db, e, "count what waits for webhook %.80s", id);
	*out = db_number_at(stmt, 0);
	return 0;
}

int db_delivery_each(struct db *db, const struct db_due *due,
		     int (*fn)(const struct db_delivery *d, void *arg), void *arg, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_DELIVERY_EACH];
	int rc;

	sqlite3_bind_text(stmt, 1, due->webhook, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)due->now_ms);
	sqlite3_bind_int64(stmt, 3, (sqlite3_int64)due->limit);
	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const struct db_delivery d = {
			.event = db_event_at(stmt),
			.tries = (unsigned)db_number_at(stmt, 9),
		};
		int r = fn(&d, arg);

		if (r < 0)
			return r;
	}
	return rc == SQLITE_DONE ? 0
				 : db_fail(db, e, "read what is due for webhook %s", due->webhook);
}

int db_delivery_next(struct db *db, uint64_t now_ms, uint64_t *out_ms, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_DELIVERY_NEXT];

	sqlite3_bind_int64(stmt, 1, (sqlite3_int64)now_ms);
	if (sqlite3_step(stmt) != SQLITE_ROW)
		return db_fail(db, e, "read when webhooks are tried next");
	*out_ms = db_number_at(stmt, 0);
	return 0;
}

int db_delivery_done(struct db *db, const struct db_delivery_result *result, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_DELIVERY_DONE];

	sqlite3_bind_text(stmt, 1, result->webhook, -1, SQLITE_STATIC);
	sqlite3_bind_text(stmt, 2, result->sandbox, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 3, (sqlite3_int64)result->event);
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)result->at_ms);
	sqlite3_bind_int64(stmt, 5, (sqlite3_int64)result->due_ms);
	sqlite3_bind_text(stmt, 6, result->error, -1, SQLITE_STATIC);
	if (sqlite3_step(stmt) == SQLITE_DONE)
		return 0;
	return db_fail(db, e, "write what came of event %llu for webhook %s",
		       (unsigned long long)result->event, result->webhook);
}

int db_delivery_hurry(struct db *db, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_DELIVERY_HURRY];

	return sqlite3_step(stmt) == SQLITE_DONE ? 0
						 : db_fail(db, e, "have webhooks tried at once");
}

int db_event_facts(struct db *db, const char *sandbox, uint64_t event, struct db_event_facts *out,
		   struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_EVENT_FACTS];

	sqlite3_bind_text(stmt, 1, sandbox, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, (sqlite3_int64)event);
	if (sqlite3_step(stmt) != SQLITE_ROW)
		return db_fail(db, e, "read what is known of sandbox %s", sandbox);
	*out = (struct db_event_facts){
		.metadata_json = str_dup(db_text_at(stmt, 0)),
		.cpus = (unsigned)db_number_at(stmt, 1),
		.memory_mib = db_number_at(stmt, 2),
		.execution = db_number_at(stmt, 3),
		.running_ms = db_number_at(stmt, 4),
	};
	return 0;
}

void db_event_facts_done(struct db_event_facts *facts)
{
	free(take_ptr(&facts->metadata_json));
}
