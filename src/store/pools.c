/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of pools. */
#include "store/pools.h"

#include "base/str.h"
#include "store/db-internal.h"

int pools_prepare(struct db *db, struct err *e)
{
	int r = db_prepare(db, STMT_POOL_SET,
			   "INSERT OR REPLACE INTO pool"
			   " (template_name, cpus, memory_mib, disk_mib, size)"
			   " VALUES (?1, ?2, ?3, ?4, ?5)",
			   e);

	if (r == 0)
		r = db_prepare(db, STMT_POOL_EACH,
			       "SELECT template_name, cpus, memory_mib, disk_mib, size"
			       " FROM pool ORDER BY template_name",
			       e);
	return r < 0 ? r
		     : db_prepare(db, STMT_POOL_DELETE, "DELETE FROM pool WHERE template_name = ?1",
				  e);
}

int db_pool_set(struct db *db, const struct db_pool *pool, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_POOL_SET];

	sqlite3_bind_text(stmt, 1, pool->template_name, -1, SQLITE_STATIC);
	sqlite3_bind_int64(stmt, 2, pool->cpus);
	sqlite3_bind_int64(stmt, 3, (sqlite3_int64)pool->memory_mib);
	sqlite3_bind_int64(stmt, 4, (sqlite3_int64)pool->disk_mib);
	sqlite3_bind_int64(stmt, 5, pool->size);
	if (sqlite3_step(stmt) == SQLITE_DONE)
		return 0;
	return db_fail(db, e, "write the pool of template %s", pool->template_name);
}

int db_pool_delete(struct db *db, const char *template_name, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_POOL_DELETE];

	sqlite3_bind_text(stmt, 1, template_name, -1, SQLITE_STATIC);
	if (sqlite3_step(stmt) == SQLITE_DONE)
		return 0;
	return db_fail(db, e, "delete the pool of template %s", template_name);
}

int db_pool_each(struct db *db, int (*fn)(const struct db_pool *pool, void *arg), void *arg,
		 struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_POOL_EACH];
	int rc;

	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		const char *name = (const char *)sqlite3_column_text(stmt, 0);
		struct db_pool pool = {
			.cpus = (unsigned)db_number_at(stmt, 1),
			.memory_mib = db_number_at(stmt, 2),
			.disk_mib = db_number_at(stmt, 3),
			.size = (unsigned)db_number_at(stmt, 4),
		};
		int r;

		str_copy(pool.template_name, sizeof(pool.template_name), name != NULL ? name : "");
		r = fn(&pool, arg);
		if (r < 0)
			return r;
	}
	return rc == SQLITE_DONE ? 0 : db_fail(db, e, "read pools");
}
