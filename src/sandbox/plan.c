/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/plan.h"

#include "base/clock.h"
#include "base/log.h"
#include "sandbox/fault.h"
#include "sandbox/sandbox-internal.h"

enum { RELEASE_TIMEOUT_MS = 30 * MS_PER_S };

static int acquire_step(const struct plan *plan, const struct step *step, struct sandbox *sb,
			struct op *op)
{
	int r = op_check(op);

	if (r < 0)
		return err_errno(&op->err, -r, "gave up");
	r = fault_point(op->fault, plan->name, step->name, "before", &op->err);
	if (r == 0)
		r = step->acquire(sb, op);
	if (r == 0)
		r = fault_point(op->fault, plan->name, step->name, "after", &op->err);
	return r;
}

static unsigned release_step(const struct step *step, struct sandbox *sb, const char *fault)
{
	uint64_t start_ns = clock_now_ns();
	struct op op;
	int r;

	op_init(&op, RELEASE_TIMEOUT_MS, -1);
	r = fault_point(fault, "release", step->name, "before", &op.err);
	if (r == 0)
		r = step->release(sb, &op);
	if (r == 0)
		r = fault_point(fault, "release", step->name, "after", &op.err);
	log_debug("step.released", kv_str("id", sandbox_id(sb)), kv_str("step", step->name),
		  kv_u64("us", (clock_now_ns() - start_ns) / NS_PER_US));
	if (r >= 0)
		return 0;
	log_error("step.release_failed", kv_str("id", sandbox_id(sb)), kv_str("step", step->name),
		  kv_u64("op", op.id), kv_str("error", op.err.msg));
	return 1;
}

/* Releases the steps of one life, last acquired first. */
static unsigned release_life(const struct plan *plan, size_t n, struct sandbox *sb,
			     enum step_life life, const char *fault)
{
	unsigned failed = 0;

	for (size_t i = n; i-- > 0;) {
		if (plan->steps[i].life == life && plan->steps[i].release != NULL)
			failed += release_step(&plan->steps[i], sb, fault);
	}
	return failed;
}

static unsigned unwind(const struct plan *plan, size_t n, struct sandbox *sb, bool data,
		       const char *fault)
{
	unsigned failed = release_life(plan, n, sb, STEP_VOLATILE, fault);

	if (failed > 0 || !data)
		return failed;
	return release_life(plan, n, sb, STEP_DATA, fault);
}

unsigned plan_release(const struct plan *plan, struct sandbox *sb, bool data, const char *fault)
{
	return unwind(plan, plan->n, sb, data, fault);
}

void plan_timing_add(struct plan_timing *timing, const char *name, uint64_t ns, uint64_t waited_ns)
{
	if (timing->n == PLAN_STEPS_MAX)
		return;
	timing->steps[timing->n].name = name;
	timing->steps[timing->n].ns = ns;
	timing->steps[timing->n].waited_ns = waited_ns;
	timing->n++;
	timing->total_ns += ns;
	timing->waited_ns += waited_ns;
}

static int acquire_timed(const struct plan *plan, const struct step *step, struct sandbox *sb,
			 struct op *op, struct plan_timing *timing)
{
	uint64_t start_ns = clock_now_ns();
	uint64_t waited_ns = 0;
	uint64_t ns;
	int r;

	op->waited_ns = &waited_ns;
	r = acquire_step(plan, step, sb, op);
	op->waited_ns = NULL;
	ns = clock_now_ns() - start_ns;
	log_debug("step.acquired", kv_str("id", sandbox_id(sb)), kv_str("step", step->name),
		  kv_u64("op", op->id), kv_u64("us", ns / NS_PER_US),
		  kv_u64("waited_us", waited_ns / NS_PER_US), kv_u64("failed", r < 0));
	if (r == 0 && timing != NULL)
		plan_timing_add(timing, step->name, ns, waited_ns);
	return r;
}

int plan_run(const struct plan *plan, struct sandbox *sb, struct op *op, struct plan_timing *timing,
	     unsigned *out_leaks)
{
	*out_leaks = 0;
	for (size_t i = 0; i < plan->n; i++) {
		int r = acquire_timed(plan, &plan->steps[i], sb, op, timing);

		if (r < 0) {
			*out_leaks = unwind(plan, i + 1, sb, true, op->fault);
			return err_wrap(&op->err, "%s", plan->steps[i].name);
		}
	}
	return 0;
}

int plan_adopt(const struct plan *plan, struct sandbox *sb, struct op *op)
{
	for (size_t i = 0; i < plan->n; i++) {
		const struct step *step = &plan->steps[i];
		int r = step->adopt != NULL ? step->adopt(sb, op) : 1;

		if (r < 0)
			return err_wrap(&op->err, "adopt %s", step->name);
		if (r == 0) {
			log_debug("step.gone", kv_str("id", sandbox_id(sb)),
				  kv_str("step", step->name));
			return 0;
		}
	}
	return 1;
}
