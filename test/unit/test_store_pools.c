/* SPDX-License-Identifier: Apache-2.0 */
/* Rows of pools. */
#include "base/str.h"
#include "store-fixture.h"
#include "store/pools.h"

#include <errno.h>

enum { LIST_MAX = 8 };

struct list {
	struct db_pool at[LIST_MAX];
	size_t n;
};

static int add(const struct db_pool *pool, void *arg)
{
	struct list *list = arg;

	list->at[list->n++] = *pool;
	return list->n < LIST_MAX ? 0 : -ENOSPC;
}

static int stop(const struct db_pool *pool, void *arg)
{
	(void)pool;
	(void)arg;
	return -EINTR;
}

static struct list read_all(struct db *db)
{
	struct list list = { .n = 0 };
	struct err e = { 0 };

	ck_assert_msg(db_pool_each(db, add, &list, &e) == 0, "%s", e.msg);
	return list;
}

static void set(struct db *db, const struct db_pool *pool)
{
	struct err e = { 0 };

	ck_assert_msg(db_pool_set(db, pool, &e) == 0, "%s", e.msg);
}

START_TEST(test_pools_are_kept)
{
	struct db_pool small = { "small", 0, 0, 0, 3 };
	struct db_pool base = { "base", 2, 256, 5120, 1 };
	struct db *db = open_store();
	struct list list;

	set(db, &small);
	set(db, &base);
	base.size = 64;
	base.memory_mib = UINT64_MAX;
	set(db, &base); /* in place of the other */
	db_close(db);
	db = open_store();
	list = read_all(db);
	ck_assert_uint_eq(list.n, 2);
	ck_assert_str_eq(list.at[0].template_name, "base");
	ck_assert_uint_eq(list.at[0].cpus, 2);
	ck_assert_uint_eq(list.at[0].memory_mib, UINT64_MAX);
	ck_assert_uint_eq(list.at[0].disk_mib, 5120);
	ck_assert_uint_eq(list.at[0].size, 64);
	ck_assert_str_eq(list.at[1].template_name, "small");
	ck_assert_uint_eq(list.at[1].size, 3);
	ck_assert_int_eq(db_pool_each(db, stop, NULL, NULL), -EINTR);
	db_close(db);
}
END_TEST

START_TEST(test_pools_are_forgotten)
{
	struct db_pool base = { "base", 0, 0, 0, 1 };
	struct db_pool other = { "other", 0, 0, 0, 1 };
	struct db *db = open_store();
	struct list list;

	set(db, &base);
	set(db, &other);
	ck_assert_int_eq(db_pool_delete(db, "base", NULL), 0);
	ck_assert_int_eq(db_pool_delete(db, "base", NULL), 0);
	list = read_all(db);
	ck_assert_uint_eq(list.n, 1);
	ck_assert_str_eq(list.at[0].template_name, "other");
	db_close(db);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store_pools");
	TCase *tc = tcase_create("store_pools");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_pools_are_kept);
	tcase_add_test(tc, test_pools_are_forgotten);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
