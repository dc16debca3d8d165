/* SPDX-License-Identifier: Apache-2.0 */
/* A store in a directory of its own, for each test. */
#pragma once

#include "base/file.h"
#include "store/db.h"

#include <check.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>

static char dir[] = "/tmp/viv-store-XXXXXX";
static char path[sizeof(dir) + 32];

static void setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/vivarium.db", dir);
}

static void teardown(void)
{
	ck_assert_int_eq(file_remove_tree_at(AT_FDCWD, dir), 0);
}

static inline struct db *open_store(void)
{
	struct err e = { 0 };
	struct db *db = NULL;

	ck_assert_msg(db_open(path, &db, &e) == 0, "%s", e.msg);
	return db;
}

/* Runs SQL on the file from outside of the store. */
static inline void raw(const char *sql)
{
	sqlite3 *sql_db = NULL;
	char *message = NULL;

	ck_assert_int_eq(sqlite3_open(path, &sql_db), SQLITE_OK);
	sqlite3_exec(sql_db, sql, NULL, NULL, &message);
	ck_assert_msg(message == NULL, "%s: %s", sql, message);
	sqlite3_close(sql_db);
}

static void insert_ok(struct db *db, const struct db_sandbox *row)
{
	struct err e = { 0 };

	ck_assert_msg(db_sandbox_insert(db, row, &e) == 0, "%s", e.msg);
}

static inline void insert_named(struct db *db, const char *name, uint64_t created_ms)
{
	struct db_sandbox row;

	db_sandbox_init(&row);
	row.id = id_new();
	row.created_ms = created_ms;
	db_set_str(&row.name, name);
	insert_ok(db, &row);
	db_sandbox_done(&row);
}
