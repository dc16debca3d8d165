/* SPDX-License-Identifier: Apache-2.0 */
/* The store's file: what is opened, made and refused, and what a kill leaves. */
#include "base/fd.h"
#include "base/str.h"
#include "store-fixture.h"
#include "store/db-internal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* The store cannot be opened, and the message names the file and @why. */
static void assert_refused(const char *why)
{
	struct err e = { 0 };
	struct db *db = NULL;

	ck_assert_int_lt(db_open(path, &db, &e), 0);
	ck_assert_ptr_null(db);
	ck_assert_msg(strstr(e.msg, path) != NULL, "no path in: %s", e.msg);
	ck_assert_msg(strstr(e.msg, why) != NULL, "no '%s' in: %s", why, e.msg);
}

static void write_file(const char *text, size_t n)
{
	ck_assert_int_eq(file_write_atomic_at(AT_FDCWD, path, text, n, 0600), 0);
}

static void assert_mode(const char *suffix)
{
	struct stat st;
	char file[sizeof(path) + 8];

	snprintf(file, sizeof(file), "%s%s", path, suffix);
	ck_assert_int_eq(stat(file, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0600);
}

START_TEST(test_only_the_owner_reads)
{
	mode_t old = umask(0);
	struct db *db = open_store();

	insert_named(db, "x", 1);
	assert_mode("");
	assert_mode("-wal");
	assert_mode("-shm");
	db_close(db);
	ck_assert_int_eq(chmod(path, 0644), 0);
	db_close(open_store());
	assert_mode("");
	umask(old);
}
END_TEST

START_TEST(test_empty_file_is_new)
{
	struct db *db;

	write_file("", 0);
	db = open_store();
	insert_named(db, "x", 1);
	db_close(db);
}
END_TEST

/* As after a kill between the first write of the file and the first migration. */
START_TEST(test_file_without_schema_is_new)
{
	struct db *db;

	raw("PRAGMA journal_mode = WAL; PRAGMA user_version = 0; VACUUM");
	db = open_store();
	insert_named(db, "x", 1);
	db_close(db);
}
END_TEST

static int expect_unrecorded(struct db_sandbox *row, void *arg)
{
	ck_assert_str_eq(row->name, "old");
	ck_assert_str_eq(row->acceleration, "");
	ck_assert_str_eq(row->egress.deny_out, "");
	(*(unsigned *)arg)++;
	db_sandbox_done(row);
	return 0;
}

/* A store of version 1, with a sandbox in it. */
START_TEST(test_older_is_migrated)
{
	auto_free char *made = str_printf("PRAGMA application_id = %d; PRAGMA user_version = 1; %s",
					  DB_APPLICATION_ID, schema_migrations[0]);
	struct db *db;
	unsigned rows = 0;

	raw(made);
	raw("INSERT INTO sandbox VALUES ('iaaaaaaaaaaaaaaaaaaa', 'old', 'base', 'running', 1, 512, "
	    "5120, 'user', '', '{}', '{}', '', 0, 1, 1, 0, '6.1', 'qemu', '7.2', '1', '1', "
	    "'qcow2', "
	    "'', 0)");
	db = open_store();
	ck_assert_int_eq(db_sandbox_each(db, expect_unrecorded, &rows, NULL), 0);
	ck_assert_uint_eq(rows, 1);
	insert_named(db, "new", 2);
	db_close(db);
}
END_TEST

START_TEST(test_newer_is_refused)
{
	auto_free char *why =
		str_printf("schema version 1000, this vivd knows up to %u;", schema_version());

	db_close(open_store());
	raw("PRAGMA user_version = 1000");
	assert_refused(why);
}
END_TEST

START_TEST(test_foreign_is_refused)
{
	struct stat before;
	struct stat after;

	raw("CREATE TABLE bookmarks (url TEXT); PRAGMA application_id = 77");
	ck_assert_int_eq(chmod(path, 0644), 0);
	ck_assert_int_eq(stat(path, &before), 0);
	assert_refused("another program (application id 0x4d)");
	ck_assert_int_eq(stat(path, &after), 0);
	ck_assert_uint_eq(after.st_mode, before.st_mode);
	ck_assert_int_eq(after.st_mtim.tv_nsec, before.st_mtim.tv_nsec);
	raw("PRAGMA application_id = 0");
	assert_refused("another program");
}
END_TEST

START_TEST(test_garbage_is_refused)
{
	static char garbage[8192];

	memset(garbage, 'x', sizeof(garbage));
	write_file(garbage, sizeof(garbage));
	assert_refused("damaged or no database");
	write_file("short", 5);
	assert_refused("damaged or no database");
}
END_TEST

START_TEST(test_truncated_is_refused)
{
	struct stat st;

	db_close(open_store());
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(truncate(path, st.st_size - 4096), 0);
	assert_refused("damaged");
	ck_assert_int_eq(truncate(path, 1000), 0);
	assert_refused("damaged");
}
END_TEST

START_TEST(test_damaged_page_is_refused)
{
	static const char zeros[4096];
	auto_close int fd = -1;

	db_close(open_store());
	fd = open(path, O_WRONLY | O_CLOEXEC);
	ck_assert_int_eq(pwrite(fd, zeros, sizeof(zeros), 2 * 4096), sizeof(zeros));
	assert_refused("damaged");
}
END_TEST

START_TEST(test_no_file_is_refused)
{
	ck_assert_int_eq(mkdir(path, 0700), 0);
	assert_refused("Is a directory");
	ck_assert_int_eq(rmdir(path), 0);
	snprintf(path, sizeof(path), "%s/no/such.db", dir);
	assert_refused("No such file or directory");
}
END_TEST

START_TEST(test_locked_by_another)
{
	struct db *db = open_store();
	struct db_sandbox row;
	sqlite3 *other = NULL;
	struct err e = { 0 };

	db_sandbox_init(&row);
	row.id = id_new();
	ck_assert_int_eq(sqlite3_open(path, &other), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
	ck_assert_int_eq(db_sandbox_insert(db, &row, &e), -EBUSY);
	ck_assert_ptr_nonnull(strstr(e.msg, "locked by another process"));
	ck_assert_ptr_nonnull(strstr(e.msg, path));
	ck_assert_int_eq(sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
	insert_ok(db, &row);
	sqlite3_close(other);
	db_sandbox_done(&row);
	db_close(db);
}
END_TEST

/* Open, while another process has the file for itself. */
START_TEST(test_open_while_locked)
{
	sqlite3 *other = NULL;

	db_close(open_store());
	ck_assert_int_eq(sqlite3_open(path, &other), SQLITE_OK);
	ck_assert_int_eq(
		sqlite3_exec(other,
			     "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = DELETE;"
			     "BEGIN EXCLUSIVE",
			     NULL, NULL, NULL),
		SQLITE_OK);
	assert_refused("locked by another process");
	sqlite3_close(other);
}
END_TEST

static void insert_for_ever(int report_fd)
{
	struct db *db = open_store();

	for (uint64_t n = 1;; n++) {
		insert_named(db, "", n);
		if (write(report_fd, "x", 1) != 1)
			_exit(1);
	}
}

static int count(struct db_sandbox *row, void *arg)
{
	uint64_t *n = arg;

	ck_assert_uint_eq(row->created_ms, ++*n); /* without a gap */
	db_sandbox_done(row);
	return 0;
}

START_TEST(test_kill_loses_nothing)
{
	static const uint64_t kill_after[] = { 1, 40, 150 };
	uint64_t committed = 0;
	uint64_t found = 0;
	struct err e = { 0 };
	struct db *db;
	int report[2];
	pid_t child;
	char byte;

	ck_assert_int_eq(pipe2(report, O_CLOEXEC), 0);
	child = fork();
	ck_assert_int_ge(child, 0);
	if (child == 0)
		insert_for_ever(report[1]);
	close(report[1]);
	while (committed < kill_after[_i] && read(report[0], &byte, 1) == 1)
		committed++;
	ck_assert_int_eq(kill(child, SIGKILL), 0);
	ck_assert_int_eq(waitpid(child, NULL, 0), child);
	while (read(report[0], &byte, 1) == 1)
		committed++;
	close(report[0]);
	ck_assert_uint_ge(committed, kill_after[_i]);

	db = open_store(); /* its rows are in the WAL still */
	ck_assert_msg(db_sandbox_each(db, count, &found, &e) == 0, "%s", e.msg);
	ck_assert_msg(found == committed || found == committed + 1, "%llu of %llu rows",
		      (unsigned long long)found, (unsigned long long)committed);
	insert_named(db, "after", found + 1);
	db_close(db);
}
END_TEST

/* Kills a child while it makes the file; whatever is left opens. */
START_TEST(test_kill_while_making)
{
	for (int delay_ms = 0; delay_ms < 8; delay_ms++) {
		pid_t child = fork();

		ck_assert_int_ge(child, 0);
		if (child == 0) {
			db_close(open_store());
			_exit(0);
		}
		ck_assert_int_eq(poll(NULL, 0, delay_ms), 0);
		kill(child, SIGKILL);
		ck_assert_int_eq(waitpid(child, NULL, 0), child);
		db_close(open_store());
		ck_assert_int_eq(unlink(path), 0);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store_file");
	TCase *tc = tcase_create("store_file");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, test_only_the_owner_reads);
	tcase_add_test(tc, test_empty_file_is_new);
	tcase_add_test(tc, test_file_without_schema_is_new);
	tcase_add_test(tc, test_older_is_migrated);
	tcase_add_test(tc, test_newer_is_refused);
	tcase_add_test(tc, test_foreign_is_refused);
	tcase_add_test(tc, test_garbage_is_refused);
	tcase_add_test(tc, test_truncated_is_refused);
	tcase_add_test(tc, test_damaged_page_is_refused);
	tcase_add_test(tc, test_no_file_is_refused);
	tcase_add_test(tc, test_locked_by_another);
	tcase_add_test(tc, test_open_while_locked);
	tcase_add_loop_test(tc, test_kill_loses_nothing, 0, 3);
	tcase_add_test(tc, test_kill_while_making);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
