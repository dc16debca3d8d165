/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "store-fixture.h"
#include "store/keys.h"

#include <errno.h>

struct list {
	struct db_key at[8];
	size_t n;
};

static struct db_key new_key(const char *id, const char *name, uint64_t created_ms)
{
	struct db_key key = { .created_ms = created_ms };

	str_copy(key.id, sizeof(key.id), id);
	str_copy(key.name, sizeof(key.name), name);
	str_copy(key.prefix, sizeof(key.prefix), "e2b_0123");
	memset(key.hash, id[1], sizeof(key.hash));
	key.hash[7] = 0; /* it is bytes, no text */
	return key;
}

static int add(const struct db_key *key, void *arg)
{
	struct list *list = arg;

	ck_assert_uint_lt(list->n, ARRAY_SIZE(list->at));
	list->at[list->n++] = *key;
	return 0;
}

static int stop(const struct db_key *key, void *arg)
{
	add(key, arg);
	return -EINTR;
}

static struct list read_keys(struct db *db)
{
	struct list list = { .n = 0 };
	struct err e = { 0 };

	ck_assert_msg(db_key_each(db, add, &list, &e) == 0, "%s", e.msg);
	return list;
}

START_TEST(test_keys_are_kept)
{
	struct db *db = open_store();
	struct db_key late = new_key("k222222222222", "late", 20);
	struct db_key early = new_key("k111111111111", "early", 10);
	struct list list;

	ck_assert_int_eq(db_key_insert(db, &late, NULL), 0);
	ck_assert_int_eq(db_key_insert(db, &early, NULL), 0);
	ck_assert_int_eq(db_key_used(db, late.id, 77, NULL), 0);
	ck_assert_int_eq(db_key_used(db, "k000000000000", 77, NULL), 0);
	db_close(db);

	db = open_store();
	list = read_keys(db);
	ck_assert_uint_eq(list.n, 2);
	ck_assert_str_eq(list.at[0].id, early.id);
	ck_assert_str_eq(list.at[0].name, "early");
	ck_assert_str_eq(list.at[0].prefix, "e2b_0123");
	ck_assert_mem_eq(list.at[0].hash, early.hash, KEY_HASH_BYTES);
	ck_assert_uint_eq(list.at[0].created_ms, 10);
	ck_assert_uint_eq(list.at[0].last_used_ms, 0);
	ck_assert_uint_eq(list.at[1].last_used_ms, 77);
	db_close(db);
}
END_TEST

START_TEST(test_names_and_ids_are_one_space)
{
	struct db *db = open_store();
	struct db_key key = new_key("k111111111111", "a", 1);
	struct db_key same_id = new_key("k111111111111", "b", 2);
	struct db_key same_name = new_key("k222222222222", "a", 2);
	struct db_key name_is_id = new_key("k333333333333", "k111111111111", 2);
	struct err e = { 0 };

	ck_assert_int_eq(db_key_insert(db, &key, &e), 0);
	ck_assert_int_eq(db_key_insert(db, &same_id, &e), -EEXIST);
	ck_assert_int_eq(e.kind, ERR_CONFLICT);
	ck_assert_int_eq(db_key_insert(db, &same_name, NULL), -EEXIST);
	ck_assert_int_eq(db_key_insert(db, &name_is_id, NULL), -EEXIST);
	ck_assert_uint_eq(read_keys(db).n, 1);
	db_close(db);
}
END_TEST

START_TEST(test_keys_are_deleted)
{
	struct db *db = open_store();
	struct db_key one = new_key("k111111111111", "one", 1);
	struct db_key two = new_key("k222222222222", "two", 2);
	struct db_key three = new_key("k333333333333", "three", 3);
	struct list list = { .n = 0 };
	struct err e = { 0 };

	ck_assert_int_eq(db_key_insert(db, &one, NULL), 0);
	ck_assert_int_eq(db_key_insert(db, &two, NULL), 0);
	ck_assert_int_eq(db_key_insert(db, &three, NULL), 0);
	ck_assert_int_eq(db_key_delete(db, "one", NULL), 0);
	ck_assert_int_eq(db_key_delete(db, two.id, NULL), 0);
	ck_assert_int_eq(db_key_delete(db, "one", &e), -ENOENT);
	ck_assert_int_eq(e.kind, ERR_NOT_FOUND);
	ck_assert_int_eq(db_key_each(db, stop, &list, NULL), -EINTR);
	ck_assert_uint_eq(list.n, 1);
	ck_assert_str_eq(list.at[0].name, "three");
	db_close(db);
}
END_TEST

START_TEST(test_a_broken_hash_is_an_error)
{
	struct db *db = open_store();
	struct db_key key = new_key("k111111111111", "one", 1);
	struct list list = { .n = 0 };
	struct err e = { 0 };

	ck_assert_int_eq(db_key_insert(db, &key, NULL), 0);
	raw("UPDATE api_key SET hash = x'00'");
	ck_assert_int_lt(db_key_each(db, add, &list, &e), 0);
	ck_assert_ptr_nonnull(strstr(e.msg, "k111111111111"));
	db_close(db);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("store_keys");
	TCase *tc = tcase_create("store_keys");
	SRunner *sr;
	int failed;

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, test_keys_are_kept);
	tcase_add_test(tc, test_names_and_ids_are_one_space);
	tcase_add_test(tc, test_keys_are_deleted);
	tcase_add_test(tc, test_a_broken_hash_is_an_error);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
