/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a sandbox: reserve its row, run the plan on a worker, hand it out or undo it.
 *
 * There are three ways, and each that is of no use costs only its time, and the next is taken: one
 * that waits in the template's pool is claimed; the template's image is restored; the template is
 * booted.
 */
#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/accel.h"
#include "sandbox/ready-internal.h"
#include "sandbox/room-internal.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/snapshot-internal.h"
#include "sandbox/steps.h"
#include "sandbox/warm-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>

struct create {
	struct sandbox *sb;
	const struct plan *plan; /* claim_plan, clone_plan or create_plan */
	bool may_boot;           /* it is restored from its template's image, but need not be */
	struct op op;
	struct plan_timing timing;
	int result;
	unsigned leaks;
	sandbox_create_fn done;
	void *arg;
};

/* What the host could not do says nothing about an image. */
static bool is_of_host(int r)
{
	static const int errors[] = { EXDEV,  EMLINK, ENOSPC, EDQUOT, EROFS,
				      EMFILE, ENFILE, ENOMEM, EAGAIN };

	for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
		if (r == -errors[i])
			return true;
	}
	return false;
}

/* An image of its template was of no use: if it boots, that was the image's fault. */
static void boot_instead(struct create *c)
{
	struct sandbox *sb = c->sb;
	bool may_blame = !is_of_host(c->result);

	log_warning("warm.unusable", kv_str("id", sb->row.id.s),
		    kv_str("template", sb->row.template_name), kv_str("error", c->op.err.msg));
	c->op.err = (struct err){ 0 };
	c->plan = &create_plan;
	c->result = plan_run(c->plan, sb, &c->op, &c->timing, &c->leaks);
	if (c->result == 0 && may_blame)
		warm_forget(&sb->res.template, sb->res.origin.generation);
}

/* One that waited in the pool was of no use: what there is of it goes, and it is made like others,
 * unless nobody wants it any more. */
static void restore_instead(struct create *c)
{
	struct sandbox *sb = c->sb;

	log_warning("ready.unusable", kv_str("id", sb->row.id.s),
		    kv_str("template", sb->row.template_name), kv_str("error", c->op.err.msg));
	c->leaks = plan_release(&create_plan, sb, true, c->op.fault);
	if (c->leaks > 0 || op_check(&c->op) < 0)
		return;
	c->op.err = (struct err){ 0 };
	c->plan = &clone_plan;
	c->result = plan_run(c->plan, sb, &c->op, &c->timing, &c->leaks);
}

/* One that could not be restored can be booted, unless the host lacks what a boot needs as well: a
 * guest that cannot write to a full disk gets nowhere. */
static bool can_boot(struct create *c)
{
	struct room_disk disk;

	if (!c->may_boot || c->leaks > 0 || op_check(&c->op) < 0 || c->op.err.kind == ERR_EXHAUSTED)
		return false;
	if (room_disk(&c->sb->m->config, &disk) < 0 || disk.free >= disk.reserve)
		return true;
	err_wrap(&c->op.err, "the host's disk is full");
	return false;
}

static void create_work(void *arg)
{
	struct create *c = arg;

	c->result = plan_run(c->plan, c->sb, &c->op, &c->timing, &c->leaks);
	if (c->result < 0 && c->plan == &claim_plan)
		restore_instead(c);
	fd_close(&c->sb->res.origin_fd);
	if (c->result < 0 && can_boot(c))
		boot_instead(c);
	durable_end(&c->sb->res);
}

/* One line with the time of each step, in microseconds. */
static void log_created(const struct sandbox *sb)
{
	struct kv fields[3 + PLAN_STEPS_MAX] = {
		kv_str("id", sb->row.id.s),
		kv_str("name", sb->row.name),
		kv_u64("ms", sb->timing.total_ns / NS_PER_MS),
	};
	size_t n = 3;

	for (size_t i = 0; i < sb->timing.n; i++)
		fields[n++] = kv_u64(sb->timing.steps[i].name, sb->timing.steps[i].ns / NS_PER_US);
	log_event(LOG_LEVEL_INFO, "sandbox.created", fields, n);
}

/* Return: 0; -errno with the op's error set: the sandbox is whole, but nobody may have it. */
static int hand_out(struct create *c)
{
	struct sandbox *sb = c->sb;

	sb->row.started_ms = clock_realtime_ms();
	if (sb->row.timeout_s != 0)
		sb->row.end_ms = sb->row.started_ms + sb->row.timeout_s * MS_PER_S;
	sandbox_note_versions(sb);
	/* A daemon that found it still being created would undo it. */
	if (!sandbox_set_state(sb, DB_RUNNING, NULL))
		return err_set(&c->op.err, ERR_SYSTEM,
			       "sandbox %s: the store cannot be written; the log of vivd says why",
			       sb->row.id.s);
	watch_start(sb);
	log_created(sb);
	create_stats_add(&sb->m->creates, sb->timing.total_ns);
	if (c->plan == &create_plan && sb->m->config.warm_behind)
		warm_want(sb->m, &sb->row);
	c->done(sb, NULL, c->arg);
	accel_start(sb->m); /* what a probe may have lacked is there: a sandbox was made */
	return 0;
}

static void create_done(void *arg)
{
	struct create *c = arg;
	struct sandbox *sb = c->sb;
	struct manager *m = sb->m;

	bool whole = c->result == 0;

	sandbox_end(sb);
	sb->timing = c->timing;
	if (whole && sb->doomed)
		c->result = err_set(&c->op.err, ERR_CANCELLED,
				    "sandbox %s was removed while it was made", sb->row.id.s);
	else if (whole)
		c->result = hand_out(c);
	if (c->result < 0) {
		if (c->op.err.kind == ERR_CANCELLED)
			m->creates.cancelled++;
		else
			m->creates.failed++;
		if (!sb->doomed)
			log_error("sandbox.create_failed", kv_str("id", sb->row.id.s),
				  kv_u64("op", c->op.id), kv_str("error", c->op.err.msg));
		if (whole)
			sandbox_start_destroy(sb);
		else
			sandbox_drop(sb, c->leaks);
		/* Last: whoever reads the error finds nothing of the sandbox any more. */
		c->done(NULL, &c->op.err, c->arg);
	}
	free(c);
	manager_operation_ended(m);
}

/* Fills in what the sandbox is made with, so that `inspect` can tell for ever. */
static void record_versions(struct manager *m, struct db_sandbox *row)
{
	db_set_str(&row->vmm_name, vmm_name(m->vmm));
	db_set_str(&row->vmm_version, m->vmm_version);
	db_set_str(&row->vivd_version, m->config.version);
	if (row->acceleration[0] == '\0')
		db_set_str(&row->acceleration, manager_acceleration(m)->name);
	db_set_str(&row->disk_driver, disk_name(m->disk));
}

static void fill_in(struct manager *m, struct db_sandbox *spec, const struct sandbox_id *id,
		    enum db_state state)
{
	spec->id = *id;
	spec->state = state;
	spec->created_ms = clock_realtime_ms();
	spec->started_ms = spec->created_ms;
	record_versions(m, spec);
}

int sandbox_reserve(struct manager *m, struct db_sandbox *spec, enum db_state state, struct err *e)
{
	struct sandbox_id id = id_new();

	fill_in(m, spec, &id, state);
	return db_sandbox_insert(m->db, spec, e);
}

/* The one that waits becomes what is wished for. Until the row says so, it waits on. */
static int claim(struct sandbox *waiting, struct db_sandbox *spec, struct err *e)
{
	int r;

	fill_in(waiting->m, spec, &waiting->row.id, DB_CREATING);
	r = db_sandbox_update(waiting->m->db, spec, e);
	if (r < 0)
		return r;
	ready_leave(waiting);
	sandbox_rename(waiting, spec);
	return 0;
}

/*
 * Reserves a complete wish.
 * @waiting: of the pool, for claim_plan; NULL = it is all made now
 *
 * Return: what begin() begins; NULL with @e set: nothing was made.
 */
static struct create *create_new(struct manager *m, struct db_sandbox *spec,
				 const struct plan *plan, struct sandbox *waiting, struct err *e)
{
	auto_close int cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	const struct room_wish wish = { .vms = waiting == NULL, /* else it is counted already */
					.memory_mib = spec->memory_mib,
					.disk = true,
					.asked = true };
	struct create *c;
	int r;

	if (cancel_fd < 0) {
		err_errno(e, errno, "make an eventfd");
		return NULL;
	}
	r = room_check(m, &wish, e);
	if (r < 0)
		return NULL;
	r = waiting != NULL ? claim(waiting, spec, e) : sandbox_reserve(m, spec, DB_CREATING, e);
	if (r < 0)
		return NULL;
	c = xcalloc(1, sizeof(*c));
	c->sb = waiting != NULL ? waiting : sandbox_new(m, spec);
	c->plan = plan;
	c->sb->cancel_fd = take_fd(&cancel_fd);
	return c;
}

static void begin(struct create *c, sandbox_create_fn done, void *arg, struct sandbox_id *out_id)
{
	struct manager *m = c->sb->m;

	c->done = done;
	c->arg = arg;
	*out_id = c->sb->row.id;
	op_init(&c->op, 0, c->sb->cancel_fd);
	c->op.fault = m->config.fault;
	ready_yield(m);
	sandbox_begin(c->sb);
	work_submit(m->loop, create_work, create_done, c);
}

void spec_take_sizes(struct db_sandbox *spec, const struct checkpoint *origin)
{
	spec->cpus = origin->cpus;
	spec->memory_mib = origin->memory_mib;
	spec->disk_mib = origin->disk_mib;
	db_set_str(&spec->kernel_version, origin->kernel_version);
	db_set_str(&spec->acceleration, origin->acceleration);
}

void sandbox_set_origin(struct sandbox *sb, int fd, const struct checkpoint *origin)
{
	struct resources *res = &sb->res;

	res->origin_fd = fd;
	res->origin = *origin;
	str_copy(res->kernel_version, sizeof(res->kernel_version), origin->kernel_version);
}

void sandbox_note_versions(struct sandbox *sb)
{
	const char *vmm = vmm_version(sb->res.vmm);

	if (vmm[0] != '\0') /* else it is adopted, and the row knows */
		db_set_str(&sb->row.vmm_version, vmm);
	db_set_str(&sb->row.kernel_version, sb->res.kernel_version);
	db_set_str(&sb->row.agent_version, sb->res.agent_version);
}

/* From an image of its template, or from one of the pool that was made of that. Return: as
 * create_new(). */
static struct create *create_warm(struct manager *m, struct db_sandbox *spec,
				  const struct template *t, const struct checkpoint *image,
				  struct err *e)
{
	struct sandbox *waiting = ready_find(m, t, image, spec);
	uint64_t disk_mib = spec->disk_mib;

	spec_take_sizes(spec, image);
	spec->disk_mib = disk_mib; /* it is grown, if the image's is smaller */
	return create_new(m, spec, waiting != NULL ? &claim_plan : &clone_plan, waiting, e);
}

int sandbox_create(struct manager *m, struct db_sandbox *spec, sandbox_create_fn done, void *arg,
		   struct sandbox_id *out_id, struct err *e)
{
	auto_close int image_fd = -1;
	struct checkpoint image;
	struct template template;
	struct create *c;
	const struct snapshot *from = snapshot_find(m, spec->template_name);
	int r = manager_check_open(m, e);

	if (r == 0 && from != NULL)
		return snapshot_create(m, from, spec, &(struct create_told){ done, arg, out_id },
				       e);
	if (r == 0)
		r = spec_complete(m, spec, &template, e);
	if (r < 0)
		return r;
	image_fd = warm_find(m, &template, warm_wish_of(spec), &image);
	c = image_fd >= 0 ? create_warm(m, spec, &template, &image, e)
			  : create_new(m, spec, &create_plan, NULL, e);
	if (c == NULL)
		return -EINVAL;
	c->sb->res.template = template;
	c->may_boot = image_fd >= 0;
	if (image_fd >= 0)
		sandbox_set_origin(c->sb, take_fd(&image_fd), &image);
	begin(c, done, arg, out_id);
	return 0;
}

int sandbox_create_from(struct manager *m, struct db_sandbox *spec,
			const struct checkpoint_ref *origin, const struct create_told *told,
			struct err *e)
{
	auto_close int fd = fcntl(origin->fd, F_DUPFD_CLOEXEC, 3);
	struct create *c;
	int r = manager_check_open(m, e);

	if (r == 0)
		r = spec_check_name(spec->name, e);
	if (r == 0)
		r = restore_check_host(m, &origin->checkpoint, "", e);
	if (r < 0)
		return r;
	if (fd < 0)
		return err_errno(e, errno, "open the checkpoint again");
	spec_take_sizes(spec, &origin->checkpoint);
	c = create_new(m, spec, &clone_plan, NULL, e);
	if (c == NULL)
		return -EINVAL;
	sandbox_set_origin(c->sb, take_fd(&fd), &origin->checkpoint);
	begin(c, told->done, told->arg, told->out_id);
	return 0;
}

void sandbox_cancel_create(struct manager *m, const struct sandbox_id *id)
{
	struct sandbox *sb = sandbox_by_id(m, id);

	if (sb == NULL || sb->row.state != DB_CREATING || sb->cancel_fd < 0)
		return;
	sb->doomed = true;
	ignore_err(eventfd_write(sb->cancel_fd, 1)); /* it cannot overflow by ones */
}
