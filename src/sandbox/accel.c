/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * With acceleration=tcg or kvm there is nothing to find out. With auto, this is asked in turn, and
 * the first that answers decides:
 *
 *	/dev/kvm	is there, and a VMM without rights may open it; asked at each start
 *	the record	acceleration.json, if it is of this boot, these kernels, this VMM and CPU
 *	a probe		a guest that is booted under KVM (accel-probe.c)
 *
 * All but the first runs on a worker, beside everything else. Nobody waits for it: what is created
 * meanwhile gets TCG. What a probe took long to find out is recorded: that KVM works, or that a
 * guest hangs under it. A VMM that fails at once is as quickly asked again, when somebody has
 * repaired the cause.
 *
 * The loop alone reads and writes the verdict; the worker has a copy of its own.
 */
#include "sandbox/accel.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/accel-internal.h"
#include "sandbox/sandbox-internal.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>

struct accel {
	struct accel_verdict verdict;
	bool probing;
	struct sandbox_id probe_id; /* while probing */
	int cancel_fd;              /* eventfd; owned; -1 */
};

/* One attempt to find out, on its way through a worker. */
struct attempt {
	struct manager *m;
	struct sandbox_id id;
	struct op op;
	int result;         /* 0 record says it; -errno with op.err set */
	const char *source; /* "record" or "probe" */
	struct accel_record record;
	uint64_t ms;
};

static void set_verdict(struct accel *a, bool kvm, const char *why)
{
	a->verdict = (struct accel_verdict){ .name = kvm ? "kvm" : "tcg", .decided = true };
	str_copy(a->verdict.why, sizeof(a->verdict.why), why);
	accel_clean(a->verdict.why);
}

struct accel *accel_new(const struct manager *m)
{
	struct accel *a = xcalloc(1, sizeof(*a));

	*a = (struct accel){ .verdict = { .name = "tcg" }, .cancel_fd = -1 };
	if (streq(m->config.acceleration, "auto"))
		str_copy(a->verdict.why, sizeof(a->verdict.why),
			 "whether KVM works here is not known yet");
	else
		set_verdict(a, streq(m->config.acceleration, "kvm"), "the setting says so");
	return a;
}

void accel_free(struct accel *a)
{
	if (a == NULL)
		return;
	fd_close(&a->cancel_fd);
	free(a);
}

void accel_cancel(struct manager *m)
{
	if (m->accel->probing)
		ignore_err(eventfd_write(m->accel->cancel_fd, 1)); /* it cannot overflow by ones */
}

const struct accel_verdict *manager_acceleration(const struct manager *m)
{
	return &m->accel->verdict;
}

bool accel_owns(const struct manager *m, const struct sandbox_id *id)
{
	return m->accel->probing && id_equal(id, &m->accel->probe_id);
}

/* Whether "kvm" means something else here, so that tests reach what follows a probe's success. */
static bool has_stand_in(const struct manager *m)
{
	return streq(m->config.kvm_stand_in, "tcg");
}

enum vmm_accel accel_for_vmm(const struct manager *m, const char *name)
{
	return streq(name, "kvm") && !has_stand_in(m) ? VMM_ACCEL_KVM : VMM_ACCEL_TCG;
}

uint64_t accel_agent_timeout_ms(const struct manager *m, const char *name)
{
	return m->config.agent_timeout_ms * (streq(name, "kvm") ? 1 : m->config.tcg_timeout_factor);
}

void accel_explain(const struct manager *m, const char *name, struct err *e)
{
	if (streq(name, "kvm") && e->kind != ERR_CANCELLED)
		ignore_err(err_wrap(e, "under KVM (setting acceleration=%s)",
				    m->config.acceleration)); /* the caller's code is its own */
}

static bool find_record(struct attempt *at, const struct accel_key *key)
{
	if (accel_record_read(at->m->config.state_dir, &at->record) < 0 ||
	    !accel_key_equal(&at->record.key, key))
		return false;
	at->source = "record";
	return true;
}

static void keep_record(struct attempt *at)
{
	int r = accel_record_write(at->m->config.state_dir, &at->record);

	if (r < 0)
		log_warning("acceleration.not_recorded", kv_str("error", strerror(-r)));
}

static int probe(struct attempt *at, const struct kernel *kernel)
{
	int r = accel_probe(at->m, &at->id, kernel, &at->ms, &at->op);
	const char *why = at->op.err.msg;
	auto_free char *took =
		str_printf("a guest under KVM reached userspace in %ju ms", (uintmax_t)at->ms);

	at->record.kvm = r == 0;
	str_copy(at->record.why, sizeof(at->record.why), r == 0 ? took : why);
	accel_clean(at->record.why);
	if (r == -ECANCELED)
		return r;
	if (r == 0 || r == -ETIMEDOUT)
		keep_record(at);
	return 0;
}

static void attempt_work(void *arg)
{
	struct attempt *at = arg;
	struct accel_key key;
	struct kernel kernel;

	at->result = kernel_find(at->m->config.state_dir, NULL, &kernel, &at->op.err);
	if (at->result < 0)
		return;
	accel_key_find(at->m, &kernel, &key);
	if (find_record(at, &key))
		return;
	at->source = "probe";
	at->record = (struct accel_record){ .key = key };
	at->result = probe(at, &kernel);
}

static void log_verdict(const struct accel *a, const char *source, uint64_t ms)
{
	log_info("acceleration.decided", kv_str("acceleration", a->verdict.name),
		 kv_str("why", a->verdict.why), kv_str("source", source), kv_u64("ms", ms));
}

static void attempt_done(void *arg)
{
	struct attempt *at = arg;
	struct manager *m = at->m;
	struct accel *a = m->accel;

	m->n_busy--;
	a->probing = false;
	fd_close(&a->cancel_fd);
	if (at->result == 0) {
		set_verdict(a, at->record.kvm, at->record.why);
		log_verdict(a, at->source, at->ms);
	} else if (!m->closing) {
		log_info("acceleration.undecided", kv_str("error", at->op.err.msg));
	}
	free(at);
	manager_operation_ended(m);
}

void accel_start(struct manager *m)
{
	struct accel *a = m->accel;
	struct err e = { 0 };
	struct attempt *at;
	unsigned gid;

	if (a->verdict.decided || a->probing || m->closing)
		return;
	if (!has_stand_in(m) && vmm_kvm_check(&gid, &e) < 0) {
		set_verdict(a, false, e.msg);
		log_verdict(a, "host", 0);
		return;
	}
	a->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (a->cancel_fd < 0) {
		log_warning("acceleration.undecided", kv_str("error", strerror(errno)));
		return;
	}
	a->probing = true;
	a->probe_id = id_new();
	m->n_busy++;
	at = xcalloc(1, sizeof(*at));
	at->m = m;
	at->id = a->probe_id;
	op_init(&at->op, 0, a->cancel_fd);
	work_submit(m->loop, attempt_work, attempt_done, at);
}
