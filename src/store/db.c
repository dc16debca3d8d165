/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The file says what it is before anything in it is changed: application_id
 * names the program, user_version the schema. A file with neither and without tables is new (also
 * one whose maker was killed before the first commit); what is of another program, of a newer
 * schema or damaged is left as it is, with an error. Each migration is one transaction that ends
 * with its number in user_version, so that a file is always of one whole version.
 *
 * WAL with synchronous=FULL: a commit that returned survives a power cut. Locks are not held
 * between statements, so people may read the file while the daemon runs; a writer from outside
 * makes ours wait for a second at most, then the operation fails with a clear error.
 */
#include "store/db-internal.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

enum { BUSY_TIMEOUT_MS = 1000, FILE_MODE = 0600 };

static int errno_of_sqlite(struct db *db)
{
	int system_errno = sqlite3_system_errno(db->sql);

	switch (sqlite3_extended_errcode(db->sql) & 0xff) {
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return EBUSY;
	case SQLITE_FULL:
		return ENOSPC;
	case SQLITE_NOMEM:
		return ENOMEM;
	case SQLITE_READONLY:
		return EROFS;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return EBADMSG;
	default:
		return system_errno != 0 ? system_errno : EIO;
	}
}

static const char *reason_of_errno(struct db *db, int code)
{
	if (code == EBUSY)
		return "it is locked by another process";
	if (code == EBADMSG)
		return "it is damaged or no database; restore it from a copy or move it away";
	return sqlite3_errmsg(db->sql);
}

int db_fail(struct db *db, struct err *e, const char *fmt, ...)
{
	int code = errno_of_sqlite(db);
	char what[256];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	if (e != NULL && !err_is_set(e)) {
		err_set(e, code == ENOSPC || code == ENOMEM ? ERR_EXHAUSTED : ERR_SYSTEM,
			"store %s: %s: %s", db->path, what, reason_of_errno(db, code));
		e->code = code;
	}
	return -code;
}

void stmt_done(sqlite3_stmt **stmt)
{
	sqlite3_reset(*stmt); /* repeats the error of the step, which was looked at */
	sqlite3_clear_bindings(*stmt);
}

int db_prepare(struct db *db, enum db_stmt which, const char *sql, struct err *e)
{
	if (sqlite3_prepare_v3(db->sql, sql, -1, SQLITE_PREPARE_PERSISTENT, &db->stmts[which],
			       NULL) != SQLITE_OK)
		return db_fail(db, e, "prepare \"%s\"", sql);
	return 0;
}

static int run(struct db *db, const char *sql, struct err *e)
{
	if (sqlite3_exec(db->sql, sql, NULL, NULL, NULL) != SQLITE_OK)
		return db_fail(db, e, "%.60s", sql);
	return 0;
}

static void finalize(sqlite3_stmt **stmt)
{
	sqlite3_finalize(*stmt);
}

/* Runs a statement whose answer is one value, and gives it as text that the caller frees. */
static int ask(struct db *db, const char *sql, char **out, struct err *e)
{
	cleanup(finalize) sqlite3_stmt *stmt = NULL;
	const char *text;

	if (sqlite3_prepare_v2(db->sql, sql, -1, &stmt, NULL) != SQLITE_OK ||
	    sqlite3_step(stmt) != SQLITE_ROW)
		return db_fail(db, e, "%s", sql);
	text = (const char *)sqlite3_column_text(stmt, 0);
	*out = str_dup(text != NULL ? text : "");
	return 0;
}

static int ask_number(struct db *db, const char *sql, int64_t *out, struct err *e)
{
	auto_free char *text = NULL;
	int r = ask(db, sql, &text, e);

	if (r == 0)
		*out = strtoll(text, NULL, 10);
	return r;
}

/* Makes the file if there is none, since SQLite would make it readable for all. */
static int make_file(const char *path, struct err *e)
{
	auto_close int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, FILE_MODE);
	struct stat st;

	if (fd < 0)
		return err_errno(e, errno, "open store %s", path);
	if (fstat(fd, &st) < 0)
		return err_errno(e, errno, "stat store %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_SYSTEM, "store %s: it is no regular file", path);
	return 0; /* closed before SQLite opens it: a close here would drop SQLite's locks */
}

/* Looks at what the file is, changing nothing. Return: 0 with its version, 0 = new; -errno. */
static int identify(struct db *db, unsigned *out_version, struct err *e)
{
	int64_t app = 0;
	int64_t version = 0;
	int64_t tables = 0;
	int r = ask_number(db, "PRAGMA application_id", &app, e);

	if (r == 0)
		r = ask_number(db, "PRAGMA user_version", &version, e);
	if (r == 0)
		r = ask_number(db, "SELECT count(*) FROM sqlite_master", &tables, e);
	if (r < 0)
		return r;
	if (app != DB_APPLICATION_ID && (app != 0 || version != 0 || tables != 0))
		return err_set(
			e, ERR_SYSTEM,
			"store %s: it is the database of another program (application id %#llx); "
			"move it away or set another state_dir",
			db->path, (unsigned long long)app);
	if (version < 0 || version > schema_version())
		return err_set(
			e, ERR_SYSTEM,
			"store %s: it has schema version %lld, this vivd knows up to %u; use the "
			"newer vivd that wrote it",
			db->path, (long long)version, schema_version());
	*out_version = (unsigned)version;
	return 0;
}

static int check_pages(struct db *db, struct err *e)
{
	auto_free char *verdict = NULL;
	int r = ask(db, "PRAGMA quick_check(1)", &verdict, e);

	if (r < 0 || streq(verdict, "ok"))
		return r;
	err_set(e, ERR_SYSTEM,
		"store %s: it is damaged (%s); restore it from a copy or move it away", db->path,
		verdict);
	return -EBADMSG;
}

static int set_modes(struct db *db, struct err *e)
{
	auto_free char *mode = NULL;
	int r;

	if (chmod(db->path, FILE_MODE) < 0) /* before the WAL takes over the mode */
		return err_errno(e, errno, "set mode of store %s", db->path);
	r = ask(db, "PRAGMA journal_mode = WAL", &mode, e);
	if (r < 0)
		return r;
	if (!streq(mode, "wal"))
		return err_set(
			e, ERR_SYSTEM,
			"store %s: its file system has no shared memory for the WAL; set another "
			"state_dir",
			db->path);
	r = run(db, "PRAGMA synchronous = FULL", e);
	return r < 0 ? r : run(db, "PRAGMA foreign_keys = ON", e);
}

static int migrate_one(struct db *db, unsigned from, struct err *e)
{
	auto_free char *number = str_printf("PRAGMA application_id = %d; PRAGMA user_version = %u",
					    DB_APPLICATION_ID, from + 1);
	int r = run(db, "BEGIN IMMEDIATE", e);

	if (r < 0)
		return r;
	r = run(db, schema_migrations[from], e);
	if (r == 0)
		r = run(db, number, e);
	if (r == 0)
		r = run(db, "COMMIT", e);
	if (r < 0 && sqlite3_get_autocommit(db->sql) == 0)
		ignore_err(run(db, "ROLLBACK", NULL)); /* closing does the same; the error is r */
	return r;
}

static int migrate(struct db *db, unsigned version, struct err *e)
{
	for (; version < schema_version(); version++) {
		int r = migrate_one(db, version, e);

		if (r < 0)
			return err_wrap(e, "migrate schema from version %u", version);
	}
	return 0;
}

static int prepare_all(struct db *db, struct err *e)
{
	int r = db_prepare(db, STMT_INSTANCE_GET, "SELECT tag, net_block FROM instance", e);

	if (r == 0)
		r = db_prepare(db, STMT_INSTANCE_INSERT,
			       "INSERT OR IGNORE INTO instance (one, tag) VALUES (1, ?1)", e);
	if (r == 0)
		r = db_prepare(db, STMT_INSTANCE_SET_NET_BLOCK,
			       "UPDATE instance SET net_block = ?1", e);
	if (r == 0)
		r = rows_prepare(db, e);
	if (r == 0)
		r = keys_prepare(db, e);
	if (r == 0)
		r = events_prepare(db, e);
	if (r == 0)
		r = pools_prepare(db, e);
	return r < 0 ? r : webhooks_prepare(db, e);
}

static int ensure_instance(struct db *db, struct err *e)
{
	struct instance_tag tag = tag_new();
	auto_stmt *stmt = db->stmts[STMT_INSTANCE_INSERT];

	sqlite3_bind_text(stmt, 1, tag.s, -1, SQLITE_STATIC);
	return sqlite3_step(stmt) == SQLITE_DONE ? 0 : db_fail(db, e, "write instance");
}

static int open_checked(struct db *db, struct err *e)
{
	unsigned version = 0;
	int r = make_file(db->path, e);

	if (r < 0)
		return r;
	if (sqlite3_open_v2(db->path, &db->sql, SQLITE_OPEN_READWRITE | SQLITE_OPEN_EXRESCODE,
			    NULL) != SQLITE_OK)
		return db_fail(db, e, "open");
	sqlite3_busy_timeout(db->sql, BUSY_TIMEOUT_MS);
	r = identify(db, &version, e);
	if (r == 0)
		r = check_pages(db, e);
	if (r == 0)
		r = set_modes(db, e);
	if (r == 0)
		r = migrate(db, version, e);
	if (r == 0)
		r = prepare_all(db, e);
	return r < 0 ? r : ensure_instance(db, e);
}

int db_open(const char *path, struct db **out, struct err *e)
{
	struct db *db = xcalloc(1, sizeof(*db));
	int r;

	db->path = str_dup(path);
	r = open_checked(db, e);
	if (r < 0) {
		db_close(db);
		return r;
	}
	*out = db;
	return 0;
}

void db_close(struct db *db)
{
	if (db == NULL)
		return;
	for (size_t i = 0; i < STMT_N; i++)
		sqlite3_finalize(db->stmts[i]);
	sqlite3_close(db->sql);
	free(db->path);
	free(db);
}

int db_instance_get(struct db *db, struct db_instance *out, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_INSTANCE_GET];
	struct instance_tag tag;
	const char *text;

	if (sqlite3_step(stmt) != SQLITE_ROW)
		return db_fail(db, e, "read instance");
	text = (const char *)sqlite3_column_text(stmt, 0);
	if (text == NULL || tag_parse(text, &tag) < 0)
		return err_set(e, ERR_SYSTEM, "store %s: '%s' is no instance tag", db->path,
			       text != NULL ? text : "");
	out->tag = tag;
	out->net_block = (uint32_t)db_number_at(stmt, 1);
	return 0;
}

int db_instance_set_net_block(struct db *db, uint32_t block, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_INSTANCE_SET_NET_BLOCK];

	sqlite3_bind_int64(stmt, 1, block);
	return sqlite3_step(stmt) == SQLITE_DONE ? 0 : db_fail(db, e, "write address block");
}
