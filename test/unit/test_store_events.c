/* SPDX-License-Identifier: Apache-2.0 */
/* Events: what is recorded by itself when rows of sandboxes change. */
#include "base/str.h"
#include "store-fixture.h"
#include "store/events.h"

#include <errno.h>

enum { ALL = 1000 };

static int add(const struct db_event *event, void *arg)
{
	char **text = arg;
	char *longer =
		str_printf("%s%s%s%s%s%s ", *text, event->type, event->cause[0] != '\0' ? ":" : "",
			   event->cause, event->error[0] != '\0' ? "!" : "", event->error);

	free(*text);
	*text = longer;
	return 0;
}

/* Types of events as words: "type:cause!error ". The caller frees it. */
static char *events_of(struct db *db, uint64_t after, size_t limit, const char *sandbox)
{
	const struct db_event_query q = { after, limit, sandbox };
	char *text = str_dup("");
	struct err e = { 0 };

	ck_assert_msg(db_event_each(db, &q, add, &text, &e) == 0, "%s", e.msg);
	return text;
}

static void expect(struct db *db, const char *want)
{
	auto_free char *text = events_of(db, 0, ALL, NULL);

	ck_assert_str_eq(text, want);
}

static uint64_t last(struct db *db)
{
	uint64_t id = 0;

	ck_assert_int_eq(db_event_last(db, &id, NULL), 0);
	return id;
}

static struct db_sandbox make(struct db *db, const char *name)
{
	struct db_sandbox row;

	db_sandbox_init(&row);
	row.id = id_new();
	db_set_str(&row.name, name);
	db_set_str(&row.template_name, "base");
	insert_ok(db, &row);
	return row;
}

static void go(struct db *db, struct db_sandbox *row, enum db_state state)
{
	struct err e = { 0 };

	row->state = state;
	ck_assert_msg(db_sandbox_update(db, row, &e) == 0, "%s", e.msg);
}

static void each_state(struct db *db, struct db_sandbox *row, const enum db_state *states, size_t n)
{
	for (size_t i = 0; i < n; i++)
		go(db, row, states[i]);
}

#define GO(db, row, ...)                                                                           \
	each_state(db, row, (const enum db_state[]){ __VA_ARGS__ },                                \
		   sizeof((const enum db_state[]){ __VA_ARGS__ }) / sizeof(enum db_state))

START_TEST(test_a_life)
{
	struct db *db = open_store();
	struct db_sandbox row = make(db, "web");

	GO(db, &row, DB_RUNNING, DB_RUNNING);
	row.generation = 1;
	GO(db, &row, DB_RUNNING, DB_RUNNING);
	db_set_str(&row.cause, "timeout");
	GO(db, &row, DB_PAUSING);
	row.generation = 2;
	GO(db, &row, DB_PAUSED);
	db_set_str(&row.cause, "");
	GO(db, &row, DB_RESUMING, DB_RUNNING, DB_PAUSING, DB_STOPPED, DB_STARTING, DB_RUNNING,
	   DB_DELETING);
	ck_assert_int_eq(db_sandbox_delete(db, &row.id, NULL), 0);
	expect(db, "created running checkpointed paused:timeout resumed stopped running killed ");
	ck_assert_uint_eq(last(db), 8);
	db_sandbox_done(&row);
	db_close(db);
}
END_TEST

/* What is wrong with one that runs; not that it is right again, nor what else changes meanwhile. */
START_TEST(test_what_is_wrong_is_an_error)
{
	struct db *db = open_store();
	struct db_sandbox row = make(db, "");

	GO(db, &row, DB_RUNNING);
	db_set_str(&row.last_error, "full");
	GO(db, &row, DB_RUNNING);
	row.end_ms = 1;
	GO(db, &row, DB_RUNNING);
	db_set_str(&row.last_error, "");
	GO(db, &row, DB_RUNNING);
	expect(db, "created running error!full ");
	db_sandbox_done(&row);
	db_close(db);
}
END_TEST

START_TEST(test_ways_back_are_errors)
{
	struct db *db = open_store();
	struct db_sandbox row = make(db, "");

	GO(db, &row, DB_RUNNING, DB_PAUSING);
	db_set_str(&row.last_error, "full");
	GO(db, &row, DB_RUNNING, DB_PAUSING);
	db_set_str(&row.last_error, "");
	GO(db, &row, DB_PAUSED, DB_RESUMING);
	db_set_str(&row.last_error, "damaged");
	GO(db, &row, DB_PAUSED);
	db_set_str(&row.last_error, "");
	GO(db, &row, DB_RESUMING, DB_RUNNING);
	db_set_str(&row.last_error, "ended");
	GO(db, &row, DB_STOPPED);
	expect(db, "created running error!full paused error!damaged resumed stopped!ended ");
	db_sandbox_done(&row);
	row = make(db, "");
	db_set_str(&row.last_error, "no memory");
	GO(db, &row, DB_DELETING);
	ck_assert_int_eq(db_sandbox_delete(db, &row.id, NULL), 0);
	expect(db, "created running error!full paused error!damaged resumed stopped!ended "
		   "created error!no memory killed!no memory ");
	db_sandbox_done(&row);
	db_close(db);
}
END_TEST

START_TEST(test_they_are_asked_for)
{
	struct db *db = open_store();
	struct db_sandbox one = make(db, "one");
	struct db_sandbox two = make(db, "two");
	auto_free char *after = NULL;
	auto_free char *limited = NULL;
	auto_free char *of_two = NULL;

	GO(db, &one, DB_RUNNING);
	db_close(db);
	db = open_store(); /* they are kept */
	after = events_of(db, 2, ALL, NULL);
	limited = events_of(db, 0, 1, NULL);
	of_two = events_of(db, 0, ALL, two.id.s);
	ck_assert_str_eq(after, "running ");
	ck_assert_str_eq(limited, "created ");
	ck_assert_str_eq(of_two, "created ");
	db_sandbox_done(&one);
	db_sandbox_done(&two);
	db_close(db);
}
END_TEST

/* A change whose event cannot be written is none. */
START_TEST(test_both_or_neither)
{
	struct db *db = open_store();
	struct db_sandbox row = make(db, "");
	struct err e = { 0 };

	raw("CREATE TRIGGER full BEFORE INSERT ON event BEGIN SELECT raise(ABORT, 'no'); END");
	row.state = DB_RUNNING;
	ck_assert_int_lt(db_sandbox_update(db, &row, &e), 0);
	ck_assert_int_lt(db_sandbox_delete(db, &row.id, &e), 0);
	raw("DROP TRIGGER full; CREATE TRIGGER seen BEFORE UPDATE ON sandbox "
	    "WHEN OLD.state != 'creating' BEGIN SELECT raise(ABORT, 'it was changed'); END");
	go(db, &row, DB_RUNNING);
	expect(db, "created running ");
	db_sandbox_done(&row);
	db_close(db);
}
END_TEST

static int tally(const struct db_event *event, void *arg)
{
	(void)event;
	++*(size_t *)arg;
	return 0;
}

START_TEST(test_old_ones_go)
{
	struct db *db = open_store();
	const struct db_event_query q = { 0, 1000000, NULL };
	size_t kept = 0;

	raw("INSERT INTO event (at_ms, type, sandbox, name, template_name, cause, error, "
	    "generation)"
	    " VALUES (CAST((julianday('now') - 2440595) * 86400000 AS INTEGER), 'killed', 'a', '', "
	    "'', '', '', 0),"
	    " (CAST((julianday('now') - 2440594) * 86400000 AS INTEGER), 'created', 'b', '', '', "
	    "'', '', 0)");
	insert_named(db, "one", 1);
	expect(db, "created created ");
	raw("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100097)"
	    " INSERT INTO event (at_ms, type, sandbox, name, template_name, cause, error,"
	    " generation) SELECT CAST((julianday('now') - 2440588) * 86400000 AS INTEGER), "
	    "'running', '', '', '',"
	    " '', '', 0 FROM n");
	ck_assert_uint_eq(last(db), 100100);
	insert_named(db, "two", 2);
	ck_assert_int_eq(db_event_each(db, &q, tally, &kept, NULL), 0);
	ck_assert_uint_eq(last(db), 100101);
	ck_assert_uint_eq(kept, 100000);
	db_close(db);
}
END_TEST

static void count(void *arg)
{
	++*(unsigned *)arg;
}

START_TEST(test_none_of_what_is_nobodys)
{
	struct db *db = open_store();
	struct db_sandbox row;

	db_sandbox_init(&row);
	row.id = id_new();
	row.state = DB_READY;
	insert_ok(db, &row);
	row.leaked = true;
	GO(db, &row, DB_READY);
	ck_assert_int_eq(db_sandbox_delete(db, &row.id, NULL), 0);
	expect(db, "");
	row.id = id_new();
	insert_ok(db, &row);
	GO(db, &row, DB_READY, DB_CREATING, DB_RUNNING, DB_DELETING);
	ck_assert_int_eq(db_sandbox_delete(db, &row.id, NULL), 0);
	expect(db, "created running killed ");
	db_sandbox_done(&row);
	db_close(db);
}
END_TEST

START_TEST(test_they_are_told)
{
	struct db *db = open_store();
	struct db_sandbox row;
	unsigned n = 0;
	unsigned others = 0;
	struct db_watch watch = { .what = DB_WATCH_EVENTS, .fn = count, .arg = &n };
	struct db_watch other = { .what = DB_WATCH_WEBHOOKS, .fn = count, .arg = &others };

	db_watch_add(db, &watch);
	db_watch_add(db, &other);
	row = make(db, "");
	ck_assert_uint_eq(n, 1);
	GO(db, &row, DB_RUNNING, DB_PAUSING, DB_PAUSED);
	ck_assert_uint_eq(n, 3);
	db_watch_remove(db, &watch);
	db_watch_remove(db, &watch);
	ck_assert_int_eq(db_sandbox_delete(db, &row.id, NULL), 0);
	ck_assert_uint_eq(n, 3);
	ck_assert_uint_eq(others, 0);
	db_sandbox_done(&row);
	db_close(db);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store_events");
	TCase *tc = tcase_create("store_events");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_a_life);
	tcase_add_test(tc, test_what_is_wrong_is_an_error);
	tcase_add_test(tc, test_ways_back_are_errors);
	tcase_add_test(tc, test_they_are_asked_for);
	tcase_add_test(tc, test_both_or_neither);
	tcase_add_test(tc, test_old_ones_go);
	tcase_add_test(tc, test_none_of_what_is_nobodys);
	tcase_add_test(tc, test_they_are_told);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
