/* SPDX-License-Identifier: Apache-2.0 */
/* Programs that work for vivd as nobody: they are started, watched, and gone when they are dropped. */
#include "base/str.h"
#include "daemon/helper.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>

enum { SOME_UID = 54321 };

static struct helper start(const char *const *argv)
{
	struct helper helper = HELPER_INIT;
	struct err e = { 0 };

	ck_assert_msg(helper_start(argv, SOME_UID, &helper, &e) == 0, "%s", e.msg);
	return helper;
}

static void on_event(uv_poll_t *handle, int status, int events)
{
	(void)status;
	(void)events;
	++*(unsigned *)handle->data;
}

/* libuv makes what it watches non-blocking, and a wait for such a pidfd does not wait. */
START_TEST(test_dropped_ones_leave_nothing)
{
	static const char *const argv[] = { "/bin/sleep", "1000", NULL };
	unsigned n = 0;
	uv_loop_t loop;

	uv_loop_init(&loop);
	for (int i = 0; i < 20; i++) {
		struct helper helper = start(argv);
		pid_t pid = helper.process.pid;
		uv_poll_t *control = NULL;
		uv_poll_t *exit = NULL;

		ck_assert_int_eq(helper_watch(&loop, helper.control, on_event, &n, &control), 0);
		ck_assert_int_eq(helper_watch(&loop, helper.process.pidfd, on_event, &n, &exit), 0);
		uv_run(&loop, UV_RUN_NOWAIT);
		helper_unwatch(&control);
		helper_unwatch(&exit);
		helper_unwatch(&exit);
		helper_drop(&helper);
		ck_assert(kill(pid, 0) < 0 && errno == ESRCH);
		ck_assert_int_eq(helper.process.pid, 0);
		helper_drop(&helper);
	}
	uv_run(&loop, UV_RUN_DEFAULT);
	ck_assert_int_eq(uv_loop_close(&loop), 0);
	ck_assert_uint_eq(n, 0);
}
END_TEST

START_TEST(test_an_end_is_seen)
{
	static const char *const argv[] = { "/bin/true", NULL };
	struct helper helper = start(argv);
	pid_t pid = helper.process.pid;
	uv_poll_t *exit = NULL;
	unsigned n = 0;
	uv_loop_t loop;

	uv_loop_init(&loop);
	ck_assert_int_eq(helper_watch(&loop, helper.process.pidfd, on_event, &n, &exit), 0);
	while (n == 0)
		uv_run(&loop, UV_RUN_ONCE);
	helper_unwatch(&exit);
	helper_drop(&helper);
	ck_assert(kill(pid, 0) < 0 && errno == ESRCH);
	uv_run(&loop, UV_RUN_DEFAULT);
	ck_assert_int_eq(uv_loop_close(&loop), 0);
}
END_TEST

START_TEST(test_a_missing_program_is_an_error)
{
	static const char *const argv[] = { "/no/such/program", NULL };
	struct helper helper = HELPER_INIT;
	struct err e = { 0 };

	ck_assert_int_lt(helper_start(argv, SOME_UID, &helper, &e), 0);
	ck_assert_ptr_nonnull(strstr(e.msg, "/no/such/program"));
	ck_assert_int_eq(helper.process.pid, 0);
	ck_assert_int_lt(helper.control, 0);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("helper");
	TCase *tc = tcase_create("helper");
	SRunner *sr;
	int failed;

	tcase_add_test(tc, test_dropped_ones_leave_nothing);
	tcase_add_test(tc, test_an_end_is_seen);
	tcase_add_test(tc, test_a_missing_program_is_an_error);
	suite_add_tcase(s, tc);
	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
