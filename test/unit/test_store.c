/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of the store, in real SQLite files. */
#include "base/str.h"
#include "store-fixture.h"

#include <errno.h>

static struct db_sandbox full_row(void)
{
	struct db_sandbox row;

	db_sandbox_init(&row);
	row.id = id_new();
	db_set_str(&row.name, "web-1");
	db_set_str(&row.template_name, "base");
	row.state = DB_PAUSED;
	row.cpus = 3;
	row.memory_mib = 1536;
	row.disk_mib = UINT64_MAX; /* every bit comes back */
	db_set_str(&row.user, "user");
	db_set_str(&row.workdir, "/home/user");
	db_set_str(&row.env_json, "{\"A\":\"'; DROP TABLE sandbox; --\"}");
	db_set_str(&row.metadata_json, "{\"caf\xc3\xa9\":\"\xe2\x98\x83\"}");
	db_set_str(&row.access_token, "token");
	db_set_str(&row.egress.allow_out, "192.0.2.1 198.51.100.0/24");
	db_set_str(&row.egress.deny_out, "0.0.0.0/0");
	db_set_str(&row.egress.internet_access, "true");
	db_set_str(&row.traffic_token, "traffic");
	db_set_str(&row.mask_host, "localhost:${PORT}");
	row.timeout_s = 300;
	row.auto_pause = true;
	row.auto_pause_disk_only = true;
	row.auto_resume = true;
	row.created_ms = 1700000000123;
	row.started_ms = 1700000000456;
	row.end_ms = 1700000300456;
	row.generation = 3;
	db_set_str(&row.kernel_version, "6.1.0-1");
	db_set_str(&row.vmm_name, "qemu");
	db_set_str(&row.vmm_version, "7.2.1");
	db_set_str(&row.vivd_version, "0.1.0");
	db_set_str(&row.agent_version, "0.1.1");
	db_set_str(&row.disk_driver, "qcow2");
	db_set_str(&row.acceleration, "kvm");
	db_set_str(&row.last_error, "the VMM ended\nwith code 1");
	db_set_str(&row.cause, "timeout");
	row.leaked = true;
	return row;
}

static void assert_rows_equal(const struct db_sandbox *a, const struct db_sandbox *b)
{
	ck_assert_str_eq(a->id.s, b->id.s);
	ck_assert_str_eq(a->name, b->name);
	ck_assert_str_eq(a->template_name, b->template_name);
	ck_assert_int_eq(a->state, b->state);
	ck_assert_uint_eq(a->cpus, b->cpus);
	ck_assert_uint_eq(a->memory_mib, b->memory_mib);
	ck_assert_uint_eq(a->disk_mib, b->disk_mib);
	ck_assert_str_eq(a->user, b->user);
	ck_assert_str_eq(a->workdir, b->workdir);
	ck_assert_str_eq(a->env_json, b->env_json);
	ck_assert_str_eq(a->metadata_json, b->metadata_json);
	ck_assert_str_eq(a->access_token, b->access_token);
	ck_assert_str_eq(a->egress.allow_out, b->egress.allow_out);
	ck_assert_str_eq(a->egress.deny_out, b->egress.deny_out);
	ck_assert_str_eq(a->egress.internet_access, b->egress.internet_access);
	ck_assert_str_eq(a->traffic_token, b->traffic_token);
	ck_assert_str_eq(a->mask_host, b->mask_host);
	ck_assert_uint_eq(a->timeout_s, b->timeout_s);
	ck_assert_int_eq(a->auto_pause, b->auto_pause);
	ck_assert_int_eq(a->auto_pause_disk_only, b->auto_pause_disk_only);
	ck_assert_int_eq(a->auto_resume, b->auto_resume);
	ck_assert_uint_eq(a->created_ms, b->created_ms);
	ck_assert_uint_eq(a->started_ms, b->started_ms);
	ck_assert_uint_eq(a->end_ms, b->end_ms);
	ck_assert_uint_eq(a->generation, b->generation);
	ck_assert_str_eq(a->kernel_version, b->kernel_version);
	ck_assert_str_eq(a->vmm_name, b->vmm_name);
	ck_assert_str_eq(a->vmm_version, b->vmm_version);
	ck_assert_str_eq(a->vivd_version, b->vivd_version);
	ck_assert_str_eq(a->agent_version, b->agent_version);
	ck_assert_str_eq(a->disk_driver, b->disk_driver);
	ck_assert_str_eq(a->acceleration, b->acceleration);
	ck_assert_str_eq(a->last_error, b->last_error);
	ck_assert_str_eq(a->cause, b->cause);
	ck_assert_int_eq(a->leaked, b->leaked);
}

struct rows {
	struct db_sandbox at[16];
	size_t n;
	size_t stop_after; /* 0 = read all */
};

static int collect(struct db_sandbox *row, void *arg)
{
	struct rows *rows = arg;

	ck_assert_uint_lt(rows->n, ARRAY_SIZE(rows->at));
	rows->at[rows->n++] = *row;
	return rows->n == rows->stop_after ? -ECANCELED : 0;
}

static void rows_done(struct rows *rows)
{
	for (size_t i = 0; i < rows->n; i++)
		db_sandbox_done(&rows->at[i]);
	rows->n = 0;
}

static struct rows read_rows(struct db *db)
{
	struct rows rows = { .n = 0 };
	struct err e = { 0 };

	ck_assert_msg(db_sandbox_each(db, collect, &rows, &e) == 0, "%s", e.msg);
	return rows;
}

START_TEST(test_round_trip)
{
	struct db_sandbox row = full_row();
	struct db *db = open_store();
	struct rows rows;
	struct err e = { 0 };

	insert_ok(db, &row);
	db_close(db);
	db = open_store();
	rows = read_rows(db);
	ck_assert_uint_eq(rows.n, 1);
	assert_rows_equal(&rows.at[0], &row);
	rows_done(&rows);

	row.state = DB_RUNNING;
	row.leaked = false;
	db_set_str(&row.last_error, NULL);
	ck_assert_int_eq(db_sandbox_update(db, &row, &e), 0);
	rows = read_rows(db);
	assert_rows_equal(&rows.at[0], &row);
	rows_done(&rows);

	ck_assert_int_eq(db_sandbox_delete(db, &row.id, &e), 0);
	ck_assert_int_eq(db_sandbox_delete(db, &row.id, &e), 0);
	rows = read_rows(db);
	ck_assert_uint_eq(rows.n, 0);
	ck_assert_int_eq(db_sandbox_update(db, &row, &e), -ENOENT);
	ck_assert_int_eq(e.kind, ERR_NOT_FOUND);
	db_sandbox_done(&row);
	db_sandbox_done(&row);
	db_close(db);
}
END_TEST

START_TEST(test_every_state)
{
	struct db *db = open_store();
	struct rows rows;

	for (unsigned s = 0; s < DB_STATE_N; s++) {
		struct db_sandbox row;

		db_sandbox_init(&row);
		row.id = id_new();
		row.created_ms = s;
		row.state = (enum db_state)s;
		insert_ok(db, &row);
		db_sandbox_done(&row);
	}
	rows = read_rows(db);
	ck_assert_uint_eq(rows.n, DB_STATE_N);
	for (unsigned s = 0; s < DB_STATE_N; s++)
		ck_assert_uint_eq(rows.at[s].state, s);
	ck_assert_str_eq(db_state_name(DB_CREATING), "creating");
	ck_assert_str_eq(db_state_name(DB_DELETING), "deleting");
	rows_done(&rows);
	db_close(db);
}
END_TEST

START_TEST(test_names_are_unique)
{
	struct db *db = open_store();
	struct db_sandbox row = full_row();
	struct db_sandbox other = full_row();
	struct err e = { 0 };

	insert_ok(db, &row);
	ck_assert_int_eq(db_sandbox_insert(db, &other, &e), -EEXIST);
	ck_assert_int_eq(e.kind, ERR_CONFLICT);
	ck_assert_ptr_nonnull(strstr(e.msg, "name 'web-1' is taken"));
	ck_assert_ptr_nonnull(strstr(e.msg, row.id.s));

	e = (struct err){ 0 };
	db_set_str(&other.name, "web-2");
	insert_ok(db, &other);
	db_set_str(&other.name, "web-1");
	ck_assert_int_eq(db_sandbox_update(db, &other, &e), -EEXIST);
	ck_assert_int_eq(e.kind, ERR_CONFLICT);

	e = (struct err){ 0 };
	db_set_str(&row.name, "web-3");
	ck_assert_int_eq(db_sandbox_insert(db, &row, &e), -EEXIST);
	ck_assert_ptr_nonnull(strstr(e.msg, "exists already"));

	insert_named(db, "", 1); /* any number may have no name */
	insert_named(db, "", 2);
	db_sandbox_done(&row);
	db_sandbox_done(&other);
	db_close(db);
}
END_TEST

START_TEST(test_order_and_early_end)
{
	struct db *db = open_store();
	struct rows rows = { .stop_after = 2 };
	struct err e = { 0 };

	insert_named(db, "second", 20);
	insert_named(db, "first", 10);
	insert_named(db, "third", 20);
	ck_assert_int_eq(db_sandbox_each(db, collect, &rows, &e), -ECANCELED);
	ck_assert_uint_eq(rows.n, 2);
	ck_assert_str_eq(rows.at[0].name, "first");
	ck_assert_str_eq(rows.at[1].name, "second");
	rows_done(&rows);
	rows = read_rows(db); /* the walk that ended early left nothing behind */
	ck_assert_uint_eq(rows.n, 3);
	ck_assert_str_eq(rows.at[2].name, "third");
	rows_done(&rows);
	db_close(db);
}
END_TEST

START_TEST(test_instance)
{
	struct db *db = open_store();
	struct db_instance first;
	struct db_instance again;
	struct err e = { 0 };

	ck_assert_int_eq(db_instance_get(db, &first, &e), 0);
	ck_assert_uint_eq(strlen(first.tag.s), TAG_LEN);
	ck_assert_uint_eq(first.net_block, 0);
	ck_assert_int_eq(db_instance_set_net_block(db, 0xfffffc00U, &e), 0);
	db_close(db);
	db = open_store();
	ck_assert_int_eq(db_instance_get(db, &again, &e), 0);
	ck_assert_str_eq(again.tag.s, first.tag.s);
	ck_assert_uint_eq(again.net_block, 0xfffffc00U);
	db_close(db);
}
END_TEST

START_TEST(test_bad_row_is_named)
{
	struct db *db = open_store();
	struct rows rows = { .n = 0 };
	struct err e = { 0 };

	insert_named(db, "x", 1);
	raw("UPDATE sandbox SET state = 'dancing'");
	ck_assert_int_eq(db_sandbox_each(db, collect, &rows, &e), -EBADMSG);
	ck_assert_ptr_nonnull(strstr(e.msg, "has no valid state"));
	ck_assert_ptr_nonnull(strstr(e.msg, path));
	db_close(db);
}
END_TEST

static int check_column(void *arg, int n, char **values, char **names)
{
	static const char *const banned[] = { "pid", "tap", "loop", "dm", "netns", "cgroup", "fd" };
	int *columns = arg;

	(void)names;
	ck_assert_int_eq(n, 1);
	++*columns;
	for (size_t i = 0; i < ARRAY_SIZE(banned); i++) {
		size_t len = strlen(banned[i]);
		const char *at = values[0];

		while ((at = strstr(at, banned[i])) != NULL) {
			bool starts = at == values[0] || at[-1] == '_';
			bool ends = at[len] == '\0' || at[len] == '_';

			ck_assert_msg(!(starts && ends), "column %s", values[0]);
			at += len;
		}
	}
	return 0;
}

START_TEST(test_schema_has_intents_only)
{
	sqlite3 *sql = NULL;
	int columns = 0;

	db_close(open_store());
	ck_assert_int_eq(sqlite3_open(path, &sql), SQLITE_OK);
	ck_assert_int_eq(
		sqlite3_exec(sql,
			     "SELECT c.name FROM sqlite_master AS t, pragma_table_info(t.name)"
			     " AS c WHERE t.type = 'table'",
			     check_column, &columns, NULL),
		SQLITE_OK);
	/* sandbox, instance, api_key, event, pool, webhook, webhook_lane; two are SQLite's own */
	ck_assert_int_eq(columns, 40 + 3 + 6 + 12 + 5 + 13 + 5 + 2);
	sqlite3_close(sql);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store");
	TCase *tc = tcase_create("store");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_round_trip);
	tcase_add_test(tc, test_every_state);
	tcase_add_test(tc, test_names_are_unique);
	tcase_add_test(tc, test_order_and_early_end);
	tcase_add_test(tc, test_instance);
	tcase_add_test(tc, test_bad_row_is_named);
	tcase_add_test(tc, test_schema_has_intents_only);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
