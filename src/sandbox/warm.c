/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making images in the background.
 *
 * Theory of operation. A create that had to boot leaves a wish: the template, with these sizes.
 * When nothing else has been under way for a moment, the oldest wish becomes a making: a plan
 * (steps-warm.c) on a worker, one at a time. It ends by itself, or with vivd: a shutdown cancels
 * it, and what a killed vivd leaves of it is swept at the next start like anything without an
 * owner. One that failed is not tried again for some time, which doubles.
 *
 * Somebody may also ask for an image, and wait for it: then it begins at once, or after the one
 * that is being made.
 */
#include "sandbox/warm.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "guest/start.h"
#include "os/work.h"
#include "sandbox/accel.h"
#include "sandbox/ready.h"
#include "sandbox/room-internal.h"
#include "sandbox/warm-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>

enum { QUIET_MS = 500, WISHES_MAX = 16, WAITERS_MAX = 64 };
enum { RETRY_FIRST_MS = 10 * MS_PER_S, RETRY_MOST_MS = 3600 * MS_PER_S };

struct wish {
	char template_name[NAME_MAX_LEN + 1];
	struct warm_wish size;
	warm_done_fn done; /* of who waits for it; NULL = nobody */
	void *arg;
};
VEC_DEFINE(wishes, struct wish)

struct making;

struct warm {
	struct manager *m; /* borrowed */
	uv_timer_t quiet;
	struct wishes wishes;  /* oldest first; at most WISHES_MAX, and WAITERS_MAX with waiters */
	struct making *making; /* the one under way; NULL = none */
	uint64_t retry_ms;     /* the current back-off; 0 = the last one worked */
	uint64_t not_before_ns;
	struct warm_failure failure; /* of the last one; without a template = none */
};

struct making {
	struct warm_vm vm;
	struct wish wish;
	struct op op;
	struct plan_timing timing;
	int cancel_fd; /* owned */
	int result;
	unsigned leaks;
};

static void begin_next(struct manager *m);

static void tell(const struct wish *wish, const struct err *e)
{
	if (wish->done != NULL)
		wish->done(e, wish->arg);
}

static bool same_image(const struct wish *a, const struct wish *b)
{
	return streq(a->template_name, b->template_name) && a->size.cpus == b->size.cpus &&
	       a->size.memory_mib == b->size.memory_mib && a->size.disk_mib == b->size.disk_mib;
}

static void making_free(struct making *mk)
{
	resources_close(&mk->vm.sb.res);
	journal_done(&mk->vm.sb.journal);
	db_sandbox_done(&mk->vm.sb.row);
	fd_close(&mk->vm.template_fd);
	fd_close(&mk->vm.templates_fd);
	fd_close(&mk->cancel_fd);
	free(mk);
}

/* The template's directory, which this making alone may add to. */
static int lock_template(struct warm_vm *vm, struct op *op)
{
	const struct template *t = &vm->sb.res.template;

	vm->template_fd = warm_open_template(t);
	if (vm->template_fd < 0)
		return err_errno(&op->err, -vm->template_fd, "open template %s", t->name);
	vm->templates_fd = openat(vm->template_fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (vm->templates_fd < 0)
		return err_errno(&op->err, errno, "open the directory of templates");
	if (flock(vm->template_fd, LOCK_EX | LOCK_NB) < 0)
		return err_set(&op->err, ERR_CONFLICT,
			       "template %s: another vivd makes an image of it, or it is being "
			       "removed; try again",
			       t->name);
	warm_cmdline(vm->sb.m, vm->sb.row.acceleration, vm->cmdline);
	return kernel_initramfs_name(vm->sb.m->config.agent_path, vm->initramfs, &op->err);
}

static void making_work(void *arg)
{
	struct making *mk = arg;
	struct sandbox *sb = &mk->vm.sb;

	mk->result = lock_template(&mk->vm, &mk->op);
	if (mk->result < 0)
		return;
	mk->result = plan_run(&warm_plan, sb, &mk->op, &mk->timing, &mk->leaks);
	if (mk->result < 0)
		return;
	mk->leaks = plan_release(&warm_plan, sb, true, mk->op.fault);
	warm_drop_old(mk->vm.template_fd, sb->m->config.warm_images);
}

static void log_made(const struct making *mk)
{
	struct kv fields[3 + PLAN_STEPS_MAX] = {
		kv_str("template", mk->wish.template_name),
		kv_u64("generation", mk->vm.sb.res.draft.generation),
		kv_u64("ms", mk->timing.total_ns / NS_PER_MS),
	};
	size_t n = 3;

	for (size_t i = 0; i < mk->timing.n; i++)
		fields[n++] = kv_u64(mk->timing.steps[i].name, mk->timing.steps[i].ns / NS_PER_US);
	log_event(LOG_LEVEL_INFO, "warm.made", fields, n);
}

static void note_result(struct warm *w, const struct making *mk)
{
	if (mk->result == 0) {
		w->retry_ms = 0;
		w->failure.template_name[0] = '\0';
		log_made(mk);
		return;
	}
	if (mk->op.err.kind == ERR_CANCELLED)
		return;
	w->retry_ms =
		w->retry_ms == 0 ? RETRY_FIRST_MS : MIN(2 * w->retry_ms, (uint64_t)RETRY_MOST_MS);
	w->not_before_ns = clock_now_ns() + w->retry_ms * NS_PER_MS;
	str_copy(w->failure.template_name, sizeof(w->failure.template_name),
		 mk->wish.template_name);
	str_copy(w->failure.error, sizeof(w->failure.error), mk->op.err.msg);
	w->failure.again_ms = clock_realtime_ms() + w->retry_ms;
	log_warning("warm.failed", kv_str("template", mk->wish.template_name),
		    kv_str("error", mk->op.err.msg), kv_u64("retry_ms", w->retry_ms));
}

static void making_done(void *arg)
{
	struct making *mk = arg;
	struct manager *m = mk->vm.sb.m;

	m->warm->making = NULL;
	m->n_busy--;
	note_result(m->warm, mk);
	if (mk->leaks > 0) /* without an owner: the next start sweeps it, or the doctor */
		log_warning("warm.left", kv_str("id", mk->vm.sb.row.id.s),
			    kv_u64("leaks", mk->leaks));
	tell(&mk->wish, mk->result < 0 ? &mk->op.err : NULL);
	making_free(mk);
	if (m->warm->wishes.n > 0 && m->warm->wishes.at[0].done != NULL)
		begin_next(m);
	manager_operation_ended(m);
}

/* Who the VM is while it is made: nobody in particular. */
static void fill_row(struct manager *m, struct db_sandbox *row, const struct wish *wish)
{
	db_set_str(&row->name, "template");
	db_set_str(&row->template_name, wish->template_name);
	db_set_str(&row->env_json, "{}");
	db_set_str(&row->acceleration, manager_acceleration(m)->name);
	db_set_str(&row->vmm_name, vmm_name(m->vmm));
	db_set_str(&row->vmm_version, m->vmm_version);
	db_set_str(&row->disk_driver, disk_name(m->disk));
	row->id = id_new();
	row->state = DB_CREATING;
	row->cpus = wish->size.cpus;
	row->memory_mib = wish->size.memory_mib;
	row->disk_mib = wish->size.disk_mib;
}

static struct making *making_new(struct manager *m, const struct wish *wish,
				 const struct template *t, int cancel_fd)
{
	struct making *mk = xcalloc(1, sizeof(*mk));

	mk->wish = *wish;
	mk->cancel_fd = cancel_fd;
	mk->vm = (struct warm_vm){ .sb = { .m = m, .res = RESOURCES_INIT, .cancel_fd = -1 },
				   .template_fd = -1,
				   .templates_fd = -1,
				   .stage = { .fd = -1 } };
	db_sandbox_init(&mk->vm.sb.row);
	fill_row(m, &mk->vm.sb.row, wish);
	db_set_str(&mk->vm.sb.row.user, t->user);
	db_set_str(&mk->vm.sb.row.workdir, t->workdir);
	mk->vm.sb.res.template = *t;
	/* Pages that a guest gave back are zeros then, in the image and in what is made of it. */
	mk->vm.sb.res.kernel_words = warm_kernel_words;
	op_init(&mk->op, 0, cancel_fd);
	mk->op.fault = m->config.fault;
	return mk;
}

/* Return: 0; 1 there is such an image by now; -errno with @e set. */
static int begin(struct manager *m, const struct wish *wish, struct err *e)
{
	auto_close int cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	auto_close int found = -1;
	struct checkpoint c;
	struct template t;
	struct making *mk;
	struct warm_wish size = wish->size;
	const struct room_wish room = { .vms = 1, .memory_mib = size.memory_mib, .disk = true };
	int r = template_open(m->config.state_dir, wish->template_name, &t, e);

	if (r < 0)
		return r;
	if (cancel_fd < 0)
		return err_errno(e, errno, "make an eventfd");
	size.exact = true;
	found = warm_find(m, &t, size, &c);
	if (found >= 0)
		return 1;
	r = room_check(m, &room, e);
	if (r < 0)
		return r;
	mk = making_new(m, wish, &t, take_fd(&cancel_fd));
	r = spec_add_env(&t, &mk->vm.sb.row, e);
	if (r < 0) {
		making_free(mk);
		return r;
	}
	m->warm->making = mk;
	m->n_busy++;
	work_submit(m->loop, making_work, making_done, m->warm->making);
	return 0;
}

static struct wish take_first(struct warm *w)
{
	struct wish first = w->wishes.at[0];

	w->wishes.n--;
	memmove(&w->wishes.at[0], &w->wishes.at[1], w->wishes.n * sizeof(first));
	return first;
}

static void begin_next(struct manager *m)
{
	struct warm *w = m->warm;

	while (!m->closing && w->making == NULL && w->wishes.n > 0) {
		struct wish wish = take_first(w);
		struct err e = { 0 };
		int r = begin(m, &wish, &e);

		if (r != 0)
			tell(&wish, r < 0 ? &e : NULL);
	}
}

static void on_quiet(uv_timer_t *timer)
{
	struct warm *w = timer->data;

	if (w->m->n_busy == 0)
		begin_next(w->m);
}

void warm_idle(struct manager *m)
{
	struct warm *w = m->warm;
	uint64_t now_ns = clock_now_ns();
	uint64_t wait_ms = QUIET_MS;

	if (w == NULL || w->wishes.n == 0 || m->closing)
		return;
	if (w->not_before_ns > now_ns)
		wait_ms += (w->not_before_ns - now_ns) / NS_PER_MS;
	uv_timer_start(&w->quiet, on_quiet, wait_ms, 0);
}

static bool is_wished(const struct warm *w, const struct wish *wish)
{
	vec_foreach (other, &w->wishes) {
		if (same_image(other, wish))
			return true;
	}
	return w->making != NULL && same_image(&w->making->wish, wish);
}

void warm_want(struct manager *m, const struct db_sandbox *row)
{
	struct wish wish = { .size = warm_wish_of(row) };

	if (m->warm == NULL || m->closing || m->warm->wishes.n >= WISHES_MAX ||
	    (vmm_caps(m->vmm) & VMM_CAP_SNAPSHOT) == 0)
		return;
	str_copy(wish.template_name, sizeof(wish.template_name), row->template_name);
	if (!is_wished(m->warm, &wish))
		wishes_push(&m->warm->wishes, wish);
}

int warm_check(const struct manager *m, struct err *e)
{
	int r = manager_check_open(m, e);

	if (r < 0)
		return r;
	if (m->warm == NULL)
		return err_set(e, ERR_CONFLICT,
			       "no images of templates are kept (setting warm_images is 0)");
	return manager_check_can_save(m, e);
}

static int check_make(const struct manager *m, struct err *e)
{
	int r = warm_check(m, e);

	if (r == 0 && m->warm->wishes.n >= WAITERS_MAX)
		return err_set(e, ERR_LIMITED, "%zu images wait to be made; try again",
			       m->warm->wishes.n);
	return r;
}

/* Images of what was started before fit no more, and go as the longest unused. */
static int set_start(const struct template *t, const struct warm_request *request, struct err *e)
{
	const char *ready = request->ready != NULL ? request->ready : "";
	int r;

	if (request->start == NULL)
		return 0;
	r = guest_ready_check(ready, e);
	return r < 0 ? r : template_start_write(t, request->start, ready, e);
}

int warm_make(struct manager *m, const struct warm_request *request, warm_done_fn done, void *arg,
	      struct err *e)
{
	struct db_sandbox *spec = request->spec;
	struct wish wish = { .done = done, .arg = arg };
	struct template t;
	int r = check_make(m, e);

	if (r == 0)
		r = spec_complete(m, spec, &t, e);
	if (r == 0)
		r = set_start(&t, request, e);
	if (r == 0 && request->pool != NULL)
		r = ready_set(m, request->pool, e);
	if (r < 0)
		return r;
	str_copy(wish.template_name, sizeof(wish.template_name), spec->template_name);
	wish.size = warm_wish_of(spec);
	if (m->warm->making == NULL)
		return begin(m, &wish, e);
	wishes_push(&m->warm->wishes, wish);
	return 0;
}

bool warm_is_making(const struct manager *m, const char *template_name)
{
	if (m->warm == NULL)
		return false;
	vec_foreach (wish, &m->warm->wishes) {
		if (streq(wish->template_name, template_name))
			return true;
	}
	return m->warm->making != NULL && streq(m->warm->making->wish.template_name, template_name);
}

const struct warm_failure *warm_failure(const struct manager *m, const char *template_name)
{
	if (m->warm == NULL || !streq(m->warm->failure.template_name, template_name))
		return NULL;
	return &m->warm->failure;
}

bool warm_owns(const struct manager *m, const struct sandbox_id *id)
{
	return m->warm != NULL && m->warm->making != NULL &&
	       id_equal(&m->warm->making->vm.sb.row.id, id);
}

void warm_open(struct manager *m)
{
	if (m->config.warm_images == 0)
		return;
	m->warm = xcalloc(1, sizeof(*m->warm));
	m->warm->m = m;
	m->warm->quiet.data = m->warm;
	uv_timer_init(m->loop, &m->warm->quiet);
}

void warm_cancel(struct manager *m)
{
	struct err e = { 0 };

	if (m->warm == NULL)
		return;
	err_set(&e, ERR_CANCELLED, "vivd is shutting down");
	while (m->warm->wishes.n > 0) {
		struct wish wish = take_first(m->warm);

		tell(&wish, &e);
	}
	if (m->warm->making != NULL)
		ignore_err(eventfd_write(m->warm->making->cancel_fd, 1)); /* as for a create */
}

static void on_quiet_closed(uv_handle_t *quiet)
{
	struct warm *w = quiet->data;

	wishes_done(&w->wishes);
	free(w);
}

void warm_close(struct manager *m)
{
	struct warm *w = take_ptr(&m->warm);

	if (w != NULL)
		uv_close((uv_handle_t *)&w->quiet, on_quiet_closed);
}
