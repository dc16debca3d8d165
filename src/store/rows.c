/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rows of sandboxes. One table says which field of struct db_sandbox is which column; statements,
 * binding, reading and freeing all follow it.
 */
#include "store/db-internal.h"

#include "base/buf.h"
#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

enum { SQL_MAX_BYTES = 4096 };

enum column_type { COLUMN_ID, COLUMN_TEXT, COLUMN_STATE, COLUMN_UNSIGNED, COLUMN_U64, COLUMN_BOOL };

struct column {
	const char *name;
	enum column_type type;
	size_t offset;
};

#define COLUMN_AT(type, name, field)                                                               \
	{                                                                                          \
#name, COLUMN_##type, offsetof(struct db_sandbox, field)                           \
	}
#define COLUMN(type, field) COLUMN_AT(type, field, field)

/* The id comes first: it is parameter 1 of every statement. */
static const struct column columns[] = {
	COLUMN(ID, id),
	COLUMN(TEXT, name),
	COLUMN(TEXT, template_name),
	COLUMN(STATE, state),
	COLUMN(UNSIGNED, cpus),
	COLUMN(U64, memory_mib),
	COLUMN(U64, disk_mib),
	COLUMN(TEXT, user),
	COLUMN(TEXT, workdir),
	COLUMN(TEXT, env_json),
	COLUMN(TEXT, metadata_json),
	COLUMN(TEXT, access_token),
	COLUMN_AT(TEXT, allow_out, egress.allow_out),
	COLUMN_AT(TEXT, deny_out, egress.deny_out),
	COLUMN_AT(TEXT, internet_access, egress.internet_access),
	COLUMN(TEXT, traffic_token),
	COLUMN(TEXT, mask_host),
	COLUMN(U64, timeout_s),
	COLUMN(BOOL, auto_pause),
	COLUMN(BOOL, auto_pause_disk_only),
	COLUMN(BOOL, auto_resume),
	COLUMN(U64, created_ms),
	COLUMN(U64, started_ms),
	COLUMN(U64, end_ms),
	COLUMN(TEXT, kernel_version),
	COLUMN(TEXT, vmm_name),
	COLUMN(TEXT, vmm_version),
	COLUMN(TEXT, vivd_version),
	COLUMN(TEXT, agent_version),
	COLUMN(TEXT, disk_driver),
	COLUMN(U64, generation),
	COLUMN(TEXT, last_error),
	COLUMN(TEXT, cause),
	COLUMN(TEXT, acceleration),
	COLUMN(BOOL, leaked),
	COLUMN(U64, restart_max),
	COLUMN(U64, restart_tries),
	COLUMN(BOOL, restarting),
	COLUMN(U64, idle_s),
	COLUMN(BOOL, idle_kill),
};

static const char *const state_names[] = {
	[DB_CREATING] = "creating", [DB_RUNNING] = "running",   [DB_PAUSING] = "pausing",
	[DB_PAUSED] = "paused",     [DB_RESUMING] = "resuming", [DB_STARTING] = "starting",
	[DB_STOPPED] = "stopped",   [DB_DELETING] = "deleting", [DB_READY] = "ready",
};
static_assert(ARRAY_SIZE(state_names) == DB_STATE_N, "every state has a name");

const char *db_state_name(enum db_state s)
{
	return state_names[s];
}

static int state_parse(const char *s, enum db_state *out)
{
	for (size_t i = 0; i < DB_STATE_N; i++) {
		if (streq(s, state_names[i])) {
			*out = (enum db_state)i;
			return 0;
		}
	}
	return -EINVAL;
}

static void *field_of(struct db_sandbox *row, const struct column *c)
{
	return (char *)row + c->offset;
}

static const void *const_field_of(const struct db_sandbox *row, const struct column *c)
{
	return (const char *)row + c->offset;
}

void db_sandbox_init(struct db_sandbox *row)
{
	*row = (struct db_sandbox){ .state = DB_CREATING };
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		if (columns[i].type == COLUMN_TEXT)
			*(char **)field_of(row, &columns[i]) = str_dup("");
	}
}

void db_sandbox_done(struct db_sandbox *row)
{
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		if (columns[i].type == COLUMN_TEXT)
			free(take_ptr((char **)field_of(row, &columns[i])));
	}
}

void db_set_str(char **field, const char *value)
{
	char *copy = str_dup(value != NULL ? value : ""); /* first: @value may lie in the old one */

	free(*field);
	*field = copy;
}

void db_egress_init(struct db_egress *egress)
{
	egress->allow_out = str_dup("");
	egress->deny_out = str_dup("");
	egress->internet_access = str_dup("");
}

void db_egress_done(struct db_egress *egress)
{
	free(take_ptr(&egress->allow_out));
	free(take_ptr(&egress->deny_out));
	free(take_ptr(&egress->internet_access));
}

/* The columns as SQL wants them: "a, b", "?1, ?2" and "a = ?1, b = ?2". */
struct column_lists {
	struct buf names;
	struct buf params;
	struct buf sets;
};

static void column_lists_done(struct column_lists *l)
{
	buf_done(&l->names);
	buf_done(&l->params);
	buf_done(&l->sets);
}

static int column_lists_fill(struct column_lists *l)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(columns); i++) {
		const char *name = columns[i].name;
		const char *comma = i > 0 ? ", " : "";

		r = buf_printf(&l->names, "%s%s", comma, name);
		if (r == 0)
			r = buf_printf(&l->params, "%s?%zu", comma, i + 1);
		if (r == 0)
			r = buf_printf(&l->sets, "%s%s = ?%zu", comma, name, i + 1);
	}
	return r;
}

int rows_prepare(struct db *db, struct err *e)
{
	cleanup(column_lists_done) struct column_lists l = {
		.names = BUF_INIT(SQL_MAX_BYTES),
		.params = BUF_INIT(SQL_MAX_BYTES),
		.sets = BUF_INIT(SQL_MAX_BYTES),
	};
	auto_free char *insert = NULL;
	auto_free char *update = NULL;
	auto_free char *each = NULL;
	int r = column_lists_fill(&l);

	if (r < 0)
		return err_errno(e, -r, "store %s: make statements", db->path);
	insert = str_printf("INSERT INTO sandbox (%s) VALUES (%s)", buf_str(&l.names),
			    buf_str(&l.params));
	update = str_printf("UPDATE sandbox SET %s WHERE id = ?1", buf_str(&l.sets));
	each = str_printf("SELECT %s FROM sandbox ORDER BY created_ms, rowid", buf_str(&l.names));
	r = db_prepare(db, STMT_SANDBOX_INSERT, insert, e);
	if (r == 0)
		r = db_prepare(db, STMT_SANDBOX_UPDATE, update, e);
	if (r == 0)
		r = db_prepare(db, STMT_SANDBOX_EACH, each, e);
	if (r == 0)
		r = db_prepare(db, STMT_SANDBOX_DELETE, "DELETE FROM sandbox WHERE id = ?1", e);
	return r < 0 ? r
		     : db_prepare(db, STMT_SANDBOX_BY_NAME,
				  "SELECT id FROM sandbox WHERE name = ?1 AND name != ''", e);
}

static void bind_column(sqlite3_stmt *stmt, int at, const struct db_sandbox *row,
			const struct column *c)
{
	const void *field = const_field_of(row, c);

	switch (c->type) {
	case COLUMN_ID:
		sqlite3_bind_text(stmt, at, row->id.s, -1, SQLITE_STATIC);
		break;
	case COLUMN_TEXT:
		sqlite3_bind_text(stmt, at, *(char *const *)field, -1, SQLITE_STATIC);
		break;
	case COLUMN_STATE:
		sqlite3_bind_text(stmt, at, db_state_name(row->state), -1, SQLITE_STATIC);
		break;
	case COLUMN_UNSIGNED:
		sqlite3_bind_int64(stmt, at, *(const unsigned *)field);
		break;
	case COLUMN_U64: /* SQLite's integers are signed; the bits come back as they were */
		sqlite3_bind_int64(stmt, at, (sqlite3_int64) * (const uint64_t *)field);
		break;
	case COLUMN_BOOL:
		sqlite3_bind_int64(stmt, at, *(const bool *)field);
		break;
	}
}

static void bind_row(sqlite3_stmt *stmt, const struct db_sandbox *row)
{
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		bind_column(stmt, (int)i + 1, row, &columns[i]);
}

/* Return: 0; -EINVAL when the value has not the form of the field. */
static int read_column(sqlite3_stmt *stmt, int at, struct db_sandbox *row, const struct column *c)
{
	const char *text = (const char *)sqlite3_column_text(stmt, at);
	void *field = field_of(row, c);

	if (text == NULL)
		return -EINVAL;
	switch (c->type) {
	case COLUMN_ID:
		return id_parse(text, &row->id);
	case COLUMN_TEXT:
		db_set_str(field, text);
		return 0;
	case COLUMN_STATE:
		return state_parse(text, &row->state);
	case COLUMN_UNSIGNED:
		*(unsigned *)field = (unsigned)db_number_at(stmt, at);
		return 0;
	case COLUMN_U64:
		*(uint64_t *)field = db_number_at(stmt, at);
		return 0;
	case COLUMN_BOOL:
		*(bool *)field = db_number_at(stmt, at) != 0;
		return 0;
	}
	return -EINVAL;
}

static int read_row(struct db *db, sqlite3_stmt *stmt, struct db_sandbox *row, struct err *e)
{
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		if (read_column(stmt, (int)i, row, &columns[i]) == 0)
			continue;
		err_set(e, ERR_SYSTEM, "store %s: sandbox '%s' has no valid %s", db->path,
			(const char *)sqlite3_column_text(stmt, 0), columns[i].name);
		return -EBADMSG;
	}
	return 0;
}

/* Says what an insert or update collided with. */
static int conflict(struct db *db, const struct db_sandbox *row, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_SANDBOX_BY_NAME];

	sqlite3_bind_text(stmt, 1, row->name, -1, SQLITE_STATIC);
	if (sqlite3_step(stmt) == SQLITE_ROW)
		err_set(e, ERR_CONFLICT,
			"name '%s' is taken by sandbox %s; choose another or destroy that one",
			row->name, (const char *)sqlite3_column_text(stmt, 0));
	else
		err_set(e, ERR_CONFLICT, "sandbox %s exists already", row->id.s);
	return -EEXIST;
}

/* Runs an insert or update of a whole row. */
static int write_row(struct db *db, enum db_stmt which, const struct db_sandbox *row, struct err *e)
{
	auto_stmt *stmt = db->stmts[which];
	int rc;

	bind_row(stmt, row);
	rc = sqlite3_step(stmt);
	if (rc == SQLITE_DONE)
		return 0;
	if (rc == SQLITE_CONSTRAINT_UNIQUE || rc == SQLITE_CONSTRAINT_PRIMARYKEY)
		return conflict(db, row, e);
	return db_fail(db, e, "write sandbox %s", row->id.s);
}

int db_sandbox_insert(struct db *db, const struct db_sandbox *row, struct err *e)
{
	return write_row(db, STMT_SANDBOX_INSERT, row, e);
}

int db_sandbox_update(struct db *db, const struct db_sandbox *row, struct err *e)
{
	int r = write_row(db, STMT_SANDBOX_UPDATE, row, e);

	if (r < 0 || sqlite3_changes(db->sql) > 0)
		return r;
	return err_set(e, ERR_NOT_FOUND, "sandbox %s is not in the store", row->id.s);
}

int db_sandbox_delete(struct db *db, const struct sandbox_id *id, struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_SANDBOX_DELETE];

	sqlite3_bind_text(stmt, 1, id->s, -1, SQLITE_STATIC);
	return sqlite3_step(stmt) == SQLITE_DONE ? 0 : db_fail(db, e, "delete sandbox %s", id->s);
}

int db_sandbox_each(struct db *db, int (*fn)(struct db_sandbox *row, void *arg), void *arg,
		    struct err *e)
{
	auto_stmt *stmt = db->stmts[STMT_SANDBOX_EACH];
	int rc;

	while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
		struct db_sandbox row;
		int r;

		db_sandbox_init(&row);
		r = read_row(db, stmt, &row, e);
		if (r < 0) {
			db_sandbox_done(&row);
			return r;
		}
		r = fn(&row, arg);
		if (r < 0)
			return r;
	}
	return rc == SQLITE_DONE ? 0 : db_fail(db, e, "read sandboxes");
}
