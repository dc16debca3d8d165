/* SPDX-License-Identifier: Apache-2.0 */
/* Why a VM ended, from what is left of it; when a silent agent counts, and when a
 * guest's clock is wrong. */
#include "sandbox/death.h"
#include "sandbox/probe.h"

#include "base/str.h"

#include <check.h>
#include <stdlib.h>

enum { BY_SIGKILL = 128 + 9 };

static enum death_cause cause_of(struct death d, const char *said, const char *word)
{
	struct console console = CONSOLE_INIT;
	enum death_cause cause;
	auto_free char *why = NULL;

	console_feed(&console, said, strlen(said));
	d.console = &console;
	why = death_explain(&d, &cause);
	ck_assert_msg(strstr(why, word) != NULL, "%s", why);
	console_done(&console);
	return cause;
}

START_TEST(test_causes)
{
	static const char panic[] = "Kernel panic - not syncing: sysrq\n";

	ck_assert_int_eq(cause_of((struct death){ .by_guest = true }, "", "ended itself"),
			 DEATH_EXIT);
	ck_assert_int_eq(cause_of((struct death){ .by_guest = true }, panic, "sysrq"), DEATH_PANIC);
	ck_assert_int_eq(cause_of((struct death){ .code = BY_SIGKILL }, "", "signal 9"), DEATH_VMM);
	ck_assert_int_eq(
		cause_of((struct death){ .code = BY_SIGKILL, .oom_kills = 1 }, "", "memory"),
		DEATH_OOM);
	ck_assert_int_eq(cause_of((struct death){ .code = -1 }, "", "VMM ended"), DEATH_VMM);
}
END_TEST

/* One that vivd ended; but not if it ended of something else just then. */
START_TEST(test_a_silent_one)
{
	struct death d = { .code = BY_SIGKILL, .was_silent = true };

	ck_assert_int_eq(cause_of(d, "", "did not answer"), DEATH_HUNG);
	d.oom_kills = 1;
	ck_assert_int_eq(cause_of(d, "", "did not answer"), DEATH_HUNG);
	d.by_guest = true;
	ck_assert_int_eq(cause_of(d, "", "ended itself"), DEATH_EXIT);
	ck_assert(death_is_failure(DEATH_HUNG));
	ck_assert_str_eq(death_name(DEATH_HUNG), "hung");
}
END_TEST

START_TEST(test_clocks)
{
	static const uint64_t ms = 1000000, host = 1700000000000 * ms;

	/* Right, as far as a way of 400 ms can tell; and an answer at once, which tells more. */
	ck_assert_int_eq(probe_clock_error(host, host, 400 * ms), 0);
	ck_assert_int_eq(probe_clock_error(host - 400 * ms, host, 400 * ms), 0);
	ck_assert_int_eq(probe_clock_error(host - 40 * ms, host, 2 * ms), 0);
	ck_assert_int_eq(probe_clock_error(host - 101 * ms, host, 2 * ms), 100 * (int64_t)ms);
	ck_assert_int_eq(probe_clock_error(host + 99 * ms, host, 2 * ms), -100 * (int64_t)ms);
	ck_assert_int_eq(probe_clock_error(0, host, 0), (int64_t)host);
	/* What is no time of this age. */
	ck_assert_int_eq(probe_clock_error(UINT64_MAX, host, 0), 0);
}
END_TEST

START_TEST(test_a_clock_that_jumps)
{
	static const uint64_t s = 1000000000, ms = 1000000, day = 1700000000 * s;
	int64_t was = 0;

	ck_assert_int_eq(probe_clock_jump(&was, day, 5 * s), 0); /* nothing to compare with */
	ck_assert_int_eq(probe_clock_jump(&was, day + 3600 * s, 3605 * s), 0);
	ck_assert_int_eq(probe_clock_jump(&was, day + 3601 * s + 200 * ms, 3606 * s), 0);
	ck_assert_int_eq(probe_clock_jump(&was, day + 3602 * s, 3607 * s), 0); /* slewed back */
	/* It was set forward, and once only; then back; and the host slept for an hour. */
	ck_assert_int_eq(probe_clock_jump(&was, day + 3604 * s, 3608 * s), (int64_t)s);
	ck_assert_int_eq(probe_clock_jump(&was, day + 3605 * s, 3609 * s), 0);
	ck_assert_int_eq(probe_clock_jump(&was, day, 3610 * s), -3606 * (int64_t)s);
	ck_assert_int_eq(probe_clock_jump(&was, day + 3601 * s, 3611 * s), 3600 * (int64_t)s);
}
END_TEST

/* A daemon that was held up blames nobody. */
START_TEST(test_late_answers)
{
	ck_assert(probe_is_miss(1, 10000)); /* refused */
	ck_assert(probe_is_miss(10001, 10000));
	ck_assert(!probe_is_miss(20000, 10000));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("death");
	TCase *c = tcase_create("death");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(c, test_causes);
	tcase_add_test(c, test_a_silent_one);
	tcase_add_test(c, test_clocks);
	tcase_add_test(c, test_a_clock_that_jumps);
	tcase_add_test(c, test_late_answers);
	suite_add_tcase(s, c);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
