/* SPDX-License-Identifier: Apache-2.0 */
/* Webhooks: what is queued for them by itself, in which order, and until when. */
#include "base/str.h"
#include "store-fixture.h"
#include "store/webhooks.h"

#include <errno.h>

enum { FEW = 100 };

static struct db_webhook new_hook(const char *id, const char *kinds)
{
	return (struct db_webhook){ .id = id,
				    .name = "a name",
				    .url = "https://example.org/hook",
				    .secret = "s",
				    .kinds = kinds,
				    .enabled = true,
				    .created_ms = 5 };
}

static void add_hook(struct db *db, const struct db_webhook *w)
{
	struct err e = { 0 };

	ck_assert_msg(db_webhook_insert(db, w, &e) == 0, "%s", e.msg);
}

static struct db_sandbox make(struct db *db)
{
	struct db_sandbox row;

	db_sandbox_init(&row);
	row.id = id_new();
	row.cpus = 3;
	row.memory_mib = 77;
	db_set_str(&row.metadata_json, "{\"a\":\"b\"}");
	insert_ok(db, &row);
	return row;
}

static void go(struct db *db, struct db_sandbox *row, enum db_state state)
{
	struct err e = { 0 };

	row->state = state;
	ck_assert_msg(db_sandbox_update(db, row, &e) == 0, "%s", e.msg);
}

static int add(const struct db_delivery *d, void *arg)
{
	char **text = arg;
	char *longer = str_printf("%s%llu:%s:%u ", *text, (unsigned long long)d->event.id,
				  d->event.type, d->tries);

	free(*text);
	*text = longer;
	return 0;
}

/* What is due for a webhook: "event:type:tries ". */
static void expect_due(struct db *db, const char *hook, uint64_t now_ms, const char *want)
{
	const struct db_due due = { .webhook = hook, .now_ms = now_ms, .limit = FEW };
	auto_free char *text = str_dup("");
	struct err e = { 0 };

	ck_assert_msg(db_delivery_each(db, &due, add, &text, &e) == 0, "%s", e.msg);
	ck_assert_str_eq(text, want);
}

static void result(struct db *db, const char *hook, const struct db_sandbox *row, uint64_t event,
		   const char *error)
{
	const struct db_delivery_result r = { .webhook = hook,
					      .sandbox = row->id.s,
					      .event = event,
					      .at_ms = 9,
					      .error = error,
					      .due_ms = 1000 };
	struct err e = { 0 };

	ck_assert_msg(db_delivery_done(db, &r, &e) == 0, "%s", e.msg);
}

static int copy(const struct db_webhook *w, void *arg)
{
	*(struct db_webhook *)arg = *w;
	return 0;
}

/* Its numbers; the strings are gone when this returns. */
static struct db_webhook numbers(struct db *db, const char *id)
{
	struct db_webhook w = { 0 };

	ck_assert_int_eq(db_webhook_each(db, id, copy, &w, NULL), 0);
	ck_assert_ptr_nonnull(w.id);
	return w;
}

static uint64_t waiting(struct db *db, const char *id)
{
	uint64_t n = 1000;

	ck_assert_int_eq(db_webhook_waiting(db, id, &n, NULL), 0);
	return n;
}

static int check_strings(const struct db_webhook *w, void *arg)
{
	unsigned *n = arg;

	++*n;
	ck_assert_str_eq(w->id, "w111111111111");
	ck_assert_str_eq(w->name, "a name");
	ck_assert_str_eq(w->url, "https://example.org/hook");
	ck_assert_str_eq(w->secret, "s");
	ck_assert_str_eq(w->kinds, " created ");
	ck_assert_str_eq(w->last_error, "");
	ck_assert(w->enabled && w->created_ms == 5);
	return 0;
}

START_TEST(test_they_are_kept)
{
	struct db *db = open_store();
	struct db_webhook w = new_hook("w111111111111", " created ");
	struct err e = { 0 };
	unsigned n = 0;

	add_hook(db, &w);
	db_close(db);
	db = open_store();
	ck_assert_int_eq(db_webhook_each(db, NULL, check_strings, &n, NULL), 0);
	ck_assert_int_eq(db_webhook_each(db, "w000000000000", check_strings, &n, NULL), 0);
	ck_assert_uint_eq(n, 1);
	ck_assert_int_eq(db_webhook_delete(db, w.id, NULL), 0);
	ck_assert_int_eq(db_webhook_delete(db, w.id, &e), -ENOENT);
	ck_assert_int_eq(e.kind, ERR_NOT_FOUND);
	ck_assert_int_eq(db_webhook_update(db, &w, NULL), -ENOENT);
	db_close(db);
}
END_TEST

START_TEST(test_in_order_and_by_kind)
{
	struct db *db = open_store();
	struct db_sandbox before = make(db); /* 1 */
	struct db_webhook all = new_hook("wall", " created running paused resumed killed ");
	struct db_webhook some = new_hook("wsome", " paused killed ");
	struct db_webhook none = new_hook("wnone", " error ");
	struct db_sandbox row;

	add_hook(db, &all);
	add_hook(db, &some);
	add_hook(db, &none);
	expect_due(db, "wall", 0, "");
	row = make(db);           /* 2 */
	go(db, &row, DB_RUNNING); /* 3 */
	go(db, &row, DB_PAUSING);
	go(db, &row, DB_PAUSED);     /* 4 */
	go(db, &before, DB_RUNNING); /* 5 */
	expect_due(db, "wall", 0, "2:created:0 5:running:0 ");
	expect_due(db, "wsome", 0, "4:paused:0 ");
	expect_due(db, "wnone", 0, "");
	result(db, "wall", &row, 2, "");
	expect_due(db, "wall", 0, "3:running:0 5:running:0 ");
	result(db, "wall", &row, 2, ""); /* of what is behind it already */
	expect_due(db, "wall", 0, "3:running:0 5:running:0 ");
	result(db, "wall", &row, 3, "");
	result(db, "wall", &row, 4, "");
	expect_due(db, "wall", 0, "5:running:0 ");
	ck_assert_int_eq(db_sandbox_delete(db, &row.id, NULL), 0); /* 6 */
	expect_due(db, "wsome", 0, "4:paused:0 ");
	result(db, "wsome", &row, 4, "");
	expect_due(db, "wsome", 0, "6:killed:0 ");
	result(db, "wsome", &row, 6, "");
	expect_due(db, "wsome", 0, "");
	ck_assert_uint_eq(numbers(db, "wsome").delivered, 2);
	ck_assert_uint_eq(numbers(db, "wsome").delivered_ms, 9);
	ck_assert_uint_eq(waiting(db, "wsome"), 0);
	ck_assert_uint_eq(waiting(db, "wall"), 2);
	db_sandbox_done(&row);
	db_sandbox_done(&before);
	db_close(db);
}
END_TEST

START_TEST(test_failures_wait)
{
	struct db *db = open_store();
	struct db_webhook w = new_hook("w1", " created running ");
	struct db_sandbox one;
	struct db_sandbox two;
	uint64_t next = 7;

	add_hook(db, &w);
	one = make(db);           /* 1 */
	two = make(db);           /* 2 */
	go(db, &one, DB_RUNNING); /* 3 */
	ck_assert_int_eq(db_delivery_next(db, 0, &next, NULL), 0);
	ck_assert_uint_eq(next, 0);
	result(db, "w1", &one, 1, "no route");
	expect_due(db, "w1", 999, "2:created:0 ");
	expect_due(db, "w1", 1000, "2:created:0 1:created:1 ");
	ck_assert_int_eq(db_delivery_next(db, 999, &next, NULL), 0);
	ck_assert_uint_eq(next, 1000);
	ck_assert_int_eq(db_delivery_next(db, 1000, &next, NULL), 0);
	ck_assert_uint_eq(next, 0);
	ck_assert_uint_eq(numbers(db, "w1").failed, 1);
	ck_assert_uint_eq(numbers(db, "w1").failed_ms, 9);
	db_close(db);

	db = open_store();
	expect_due(db, "w1", 999, "2:created:0 ");
	ck_assert_int_eq(db_delivery_hurry(db, NULL), 0);
	expect_due(db, "w1", 0, "1:created:1 2:created:0 ");
	result(db, "w1", &one, 1, "no route");
	w.url = "https://example.org/other";
	ck_assert_int_eq(db_webhook_update(db, &w, NULL), 0);
	expect_due(db, "w1", 0, "1:created:2 2:created:0 ");
	result(db, "w1", &one, 1, "");
	expect_due(db, "w1", 0, "2:created:0 3:running:0 ");
	db_sandbox_done(&one);
	db_sandbox_done(&two);
	db_close(db);
}
END_TEST

START_TEST(test_those_that_end)
{
	struct db *db = open_store();
	struct db_webhook off = new_hook("woff", " created running ");
	struct db_webhook gone = new_hook("wgone", " created running ");
	struct db_sandbox row;

	add_hook(db, &off);
	add_hook(db, &gone);
	row = make(db); /* 1 */
	off.enabled = false;
	ck_assert_int_eq(db_webhook_update(db, &off, NULL), 0);
	ck_assert_int_eq(db_webhook_delete(db, gone.id, NULL), 0);
	result(db, "wgone", &row, 1, "too late");
	result(db, "woff", &row, 1, "too late");
	expect_due(db, "woff", 0, "");
	expect_due(db, "wgone", 0, "");
	off.enabled = true;
	ck_assert_int_eq(db_webhook_update(db, &off, NULL), 0);
	expect_due(db, "woff", 0, "");
	go(db, &row, DB_RUNNING); /* 2 */
	expect_due(db, "woff", 0, "2:running:0 ");
	db_sandbox_done(&row);
	db_close(db);
}
END_TEST

START_TEST(test_expired_ones_are_counted)
{
	struct db *db = open_store();
	struct db_webhook w = new_hook("w1", " created running paused ");
	struct db_sandbox row;

	add_hook(db, &w);
	row = make(db);           /* 1 */
	go(db, &row, DB_RUNNING); /* 2 */
	result(db, "w1", &row, 1, "no route");
	raw("UPDATE event SET at_ms = 1");
	go(db, &row, DB_PAUSING);
	go(db, &row, DB_PAUSED); /* 3; the others go */
	expect_due(db, "w1", 0, "3:paused:0 ");
	ck_assert_uint_eq(numbers(db, "w1").dropped, 2);
	raw("UPDATE event SET at_ms = 1");
	ck_assert_int_eq(db_sandbox_delete(db, &row.id, NULL), 0);
	expect_due(db, "w1", 0, "");
	ck_assert_uint_eq(numbers(db, "w1").dropped, 3);
	ck_assert_uint_eq(waiting(db, "w1"), 0);
	db_sandbox_done(&row);
	db_close(db);
}
END_TEST

static void expect_facts(struct db *db, const struct db_sandbox *row, uint64_t event,
			 uint64_t execution, bool ran)
{
	struct db_event_facts facts = { 0 };

	ck_assert_int_eq(db_event_facts(db, row->id.s, event, &facts, NULL), 0);
	ck_assert_str_eq(facts.metadata_json, "{\"a\":\"b\"}");
	ck_assert_uint_eq(facts.cpus, 3);
	ck_assert_uint_eq(facts.memory_mib, 77);
	ck_assert_uint_eq(facts.execution, execution);
	ck_assert_int_eq(facts.running_ms > 0, ran);
	db_event_facts_done(&facts);
}

START_TEST(test_facts)
{
	struct db *db = open_store();
	struct db_sandbox row = make(db); /* 1 */
	struct db_event_facts unknown = { 0 };

	go(db, &row, DB_RUNNING); /* 2 */
	go(db, &row, DB_PAUSING);
	go(db, &row, DB_PAUSED); /* 3 */
	go(db, &row, DB_RESUMING);
	go(db, &row, DB_RUNNING); /* 4 */
	for (int gone = 0; gone < 2; gone++) {
		expect_facts(db, &row, 1, 1, false);
		expect_facts(db, &row, 2, 1, false);
		expect_facts(db, &row, 3, 1, true);
		expect_facts(db, &row, 4, 3, false);
		if (gone == 0)
			ck_assert_int_eq(db_sandbox_delete(db, &row.id, NULL), 0); /* 5 */
	}
	expect_facts(db, &row, 5, 3, true);
	ck_assert_int_eq(db_event_facts(db, "i0000000000000000000", 5, &unknown, NULL), 0);
	ck_assert_str_eq(unknown.metadata_json, "");
	ck_assert_uint_eq(unknown.execution, 0);
	db_event_facts_done(&unknown);
	db_sandbox_done(&row);
	db_close(db);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store_webhooks");
	TCase *tc = tcase_create("store_webhooks");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_they_are_kept);
	tcase_add_test(tc, test_in_order_and_by_kind);
	tcase_add_test(tc, test_failures_wait);
	tcase_add_test(tc, test_those_that_end);
	tcase_add_test(tc, test_expired_ones_are_counted);
	tcase_add_test(tc, test_facts);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
