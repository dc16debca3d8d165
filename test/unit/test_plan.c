/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"
#include "base/str.h"
#include "sandbox/fault.h"
#include "sandbox/plan.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/steps.h"

#include <check.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WAIT_MS = 5 };

/* What the steps did, in order: "+a" acquired, "-a" released. */
static char trace[256];
static const char *failing; /* acquire of this step fails, half-way */
static const char *stuck;   /* release of this step fails */
static const char *waiting; /* acquire of this step waits until its time is over */
static int adopts[3];

static struct sandbox sandbox = { .row = { .id = { "iaaaaaaaaaaaaaaaaaaa" } } };

static void note(const char *what, const char *name)
{
	size_t used = strlen(trace);

	ck_assert_int_eq(str_fit(trace + used, sizeof(trace) - used, "%s%s ", what, name), 0);
}

static int acquire(const char *name, struct op *op)
{
	note("+", name);
	if (waiting != NULL && streq(waiting, name)) {
		struct op child = op_child(op, WAIT_MS);

		ck_assert_int_eq(op_wait_fd(&child, -1, 0, -1), -ETIMEDOUT);
	}
	if (failing != NULL && streq(failing, name))
		return err_set(&op->err, ERR_SYSTEM, "%s broke", name);
	return 0;
}

static int release(const char *name, struct op *op)
{
	note("-", name);
	if (stuck != NULL && streq(stuck, name))
		return err_set(&op->err, ERR_SYSTEM, "%s is stuck", name);
	return 0;
}

#define STEP_FUNCTIONS(name, i)                                                                    \
	static int name##_step_acquire(struct sandbox *sb, struct op *op)                          \
	{                                                                                          \
		ck_assert_ptr_eq(sb, &sandbox);                                                    \
		return acquire(#name, op);                                                         \
	}                                                                                          \
	static int name##_step_release(struct sandbox *sb, struct op *op)                          \
	{                                                                                          \
		ck_assert_ptr_eq(sb, &sandbox);                                                    \
		return release(#name, op);                                                         \
	}                                                                                          \
	static int name##_step_adopt(struct sandbox *sb, struct op *op)                            \
	{                                                                                          \
		ck_assert_ptr_eq(sb, &sandbox);                                                    \
		return adopts[i] < 0 ? err_set(&op->err, ERR_SYSTEM, "cannot tell") : adopts[i];   \
	}

STEP_FUNCTIONS(data, 0)
STEP_FUNCTIONS(slot, 1)
STEP_FUNCTIONS(vmm, 2)

static const struct step steps[] = {
	{ "data", STEP_DATA, data_step_acquire, data_step_release, data_step_adopt },
	{ "slot", STEP_VOLATILE, slot_step_acquire, slot_step_release, slot_step_adopt },
	{ "vmm", STEP_VOLATILE, vmm_step_acquire, vmm_step_release, vmm_step_adopt },
};
static const struct plan plan = { "create", steps, ARRAY_SIZE(steps) };

static int run(const char *fault, int cancel_fd, struct op *op, unsigned *leaks,
	       struct plan_timing *timing)
{
	trace[0] = '\0';
	op_init(op, 0, cancel_fd);
	op->fault = fault;
	return plan_run(&plan, &sandbox, op, timing, leaks);
}

START_TEST(test_acquires_in_order_and_times)
{
	struct plan_timing timing = { 0 };
	struct op op;
	unsigned leaks = 9;

	ck_assert_int_eq(run(NULL, -1, &op, &leaks, &timing), 0);
	ck_assert_str_eq(trace, "+data +slot +vmm ");
	ck_assert_uint_eq(leaks, 0);
	ck_assert_uint_eq(timing.n, 3);
	ck_assert_str_eq(timing.steps[2].name, "vmm");
}
END_TEST

START_TEST(test_tells_waits_from_work)
{
	struct plan_timing timing = { 0 };
	struct op op;
	unsigned leaks;

	waiting = "slot";
	ck_assert_int_eq(run(NULL, -1, &op, &leaks, &timing), 0);
	ck_assert_uint_eq(timing.steps[0].waited_ns, 0);
	ck_assert_uint_ge(timing.steps[1].waited_ns, WAIT_MS * NS_PER_MS);
	ck_assert_uint_le(timing.steps[1].waited_ns, timing.steps[1].ns);
	ck_assert_uint_eq(timing.steps[2].waited_ns, 0);
	ck_assert_uint_eq(timing.waited_ns, timing.steps[1].waited_ns);
	ck_assert_ptr_null(op.waited_ns);
}
END_TEST

START_TEST(test_unwinds_the_failing_step_too_volatile_first)
{
	struct op op;
	unsigned leaks;

	failing = "slot";
	ck_assert_int_lt(run(NULL, -1, &op, &leaks, NULL), 0);
	ck_assert_str_eq(trace, "+data +slot -slot -data ");
	ck_assert_str_eq(op.err.msg, "slot: slot broke");
	ck_assert_uint_eq(leaks, 0);
}
END_TEST

START_TEST(test_a_stuck_release_stops_nothing_but_keeps_data)
{
	struct op op;
	unsigned leaks;

	failing = "vmm";
	stuck = "vmm";
	ck_assert_int_lt(run(NULL, -1, &op, &leaks, NULL), 0);
	ck_assert_str_eq(trace, "+data +slot +vmm -vmm -slot ");
	ck_assert_uint_eq(leaks, 1);
	ck_assert_str_eq(op.err.msg, "vmm: vmm broke");
}
END_TEST

START_TEST(test_release_without_data)
{
	trace[0] = '\0';
	ck_assert_uint_eq(plan_release(&plan, &sandbox, false, NULL), 0);
	ck_assert_str_eq(trace, "-vmm -slot ");
	trace[0] = '\0';
	ck_assert_uint_eq(plan_release(&plan, &sandbox, true, NULL), 0);
	ck_assert_str_eq(trace, "-vmm -slot -data ");
}
END_TEST

START_TEST(test_cancelled_between_steps)
{
	int fd = eventfd(1, EFD_CLOEXEC);
	struct op op;
	unsigned leaks;

	ck_assert_int_eq(run(NULL, fd, &op, &leaks, NULL), -ECANCELED);
	ck_assert_int_eq(op.err.kind, ERR_CANCELLED);
	ck_assert_str_eq(trace, "-data ");
	close(fd);
}
END_TEST

START_TEST(test_fault_points)
{
	struct op op;
	unsigned leaks;

	ck_assert_int_lt(run("create.slot.before=fail", -1, &op, &leaks, NULL), 0);
	ck_assert_str_eq(trace, "+data -slot -data ");
	ck_assert_int_lt(run("create.slot.after=fail", -1, &op, &leaks, NULL), 0);
	ck_assert_str_eq(trace, "+data +slot -slot -data ");
	ck_assert_int_eq(run("create.other.before=fail", -1, &op, &leaks, NULL), 0);
	failing = "vmm";
	ck_assert_int_lt(run("release.slot.before=fail", -1, &op, &leaks, NULL), 0);
	ck_assert_str_eq(trace, "+data +slot +vmm -vmm ");
	ck_assert_uint_eq(leaks, 1);
}
END_TEST

START_TEST(test_a_stop_is_a_pause)
{
	struct err e = { 0 };
	int status;
	pid_t child = fork();

	ck_assert_int_ge(child, 0);
	if (child == 0)
		_exit(-fault_point("create.slot.before=stop", "create", "slot", "before", &e));
	ck_assert_int_eq(waitpid(child, &status, WUNTRACED), child);
	ck_assert(WIFSTOPPED(status));
	ck_assert_int_eq(kill(child, SIGCONT), 0);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

START_TEST(test_fault_rules)
{
	ck_assert(fault_valid("create.slot.before=fail"));
	ck_assert(fault_valid("release.vmm.after=kill"));
	ck_assert(fault_valid("create.vmm.before=stop"));
	ck_assert(!fault_valid("create.slot=fail"));
	ck_assert(!fault_valid("create.slot.before"));
	ck_assert(!fault_valid("create.slot.before=explode"));
	ck_assert(!fault_valid(""));
}
END_TEST

START_TEST(test_adopt)
{
	struct op op;

	op_init(&op, 0, -1);
	adopts[0] = adopts[1] = adopts[2] = 1;
	ck_assert_int_eq(plan_adopt(&plan, &sandbox, &op), 1);
	adopts[1] = 0;
	ck_assert_int_eq(plan_adopt(&plan, &sandbox, &op), 0);
	adopts[1] = -1;
	ck_assert_int_lt(plan_adopt(&plan, &sandbox, &op), 0);
	ck_assert_str_eq(op.err.msg, "adopt slot: cannot tell");
}
END_TEST

START_TEST(test_real_plan_ends_the_vmm_before_what_it_uses)
{
	size_t at[4] = { 99, 99, 99, 99 };
	static const char *const names[] = { "layer", "slot", "cgroup", "vmm" };

	for (size_t i = 0; i < create_plan.n; i++) {
		for (size_t k = 0; k < ARRAY_SIZE(names); k++) {
			if (streq(create_plan.steps[i].name, names[k]))
				at[k] = i;
		}
	}
	for (size_t k = 1; k < ARRAY_SIZE(names); k++)
		ck_assert_uint_lt(at[k - 1], at[k]);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("plan");
	TCase *t = tcase_create("plan");
	SRunner *sr = srunner_create(s);
	int failed;

	tcase_add_test(t, test_acquires_in_order_and_times);
	tcase_add_test(t, test_tells_waits_from_work);
	tcase_add_test(t, test_unwinds_the_failing_step_too_volatile_first);
	tcase_add_test(t, test_a_stuck_release_stops_nothing_but_keeps_data);
	tcase_add_test(t, test_release_without_data);
	tcase_add_test(t, test_cancelled_between_steps);
	tcase_add_test(t, test_fault_points);
	tcase_add_test(t, test_a_stop_is_a_pause);
	tcase_add_test(t, test_fault_rules);
	tcase_add_test(t, test_adopt);
	tcase_add_test(t, test_real_plan_ends_the_vmm_before_what_it_uses);
	suite_add_tcase(s, t);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed == 0 ? 0 : 1;
}
