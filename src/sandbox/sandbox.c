/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/sandbox.h"

#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "sandbox/metrics-internal.h"
#include "sandbox/ready-internal.h"
#include "sandbox/sandbox-internal.h"
#include "sandbox/snapshots.h"

enum { SNAPSHOT_DEPTH_MAX = 64 };

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/eventfd.h>

/* DESIGN section 6: which state may follow which. Deleting is allowed from anywhere. */
static const unsigned followers[DB_STATE_N] = {
	[DB_CREATING] = 1U << DB_RUNNING,
	[DB_RUNNING] = 1U << DB_PAUSING | 1U << DB_RESUMING | 1U << DB_STOPPED,
	[DB_PAUSING] = 1U << DB_PAUSED | 1U << DB_RUNNING | 1U << DB_STOPPED,
	[DB_PAUSED] = 1U << DB_RESUMING | 1U << DB_STARTING,
	[DB_RESUMING] = 1U << DB_RUNNING | 1U << DB_PAUSED | 1U << DB_STOPPED,
	[DB_STARTING] = 1U << DB_RUNNING | 1U << DB_STOPPED | 1U << DB_PAUSED,
	[DB_STOPPED] = 1U << DB_STARTING | 1U << DB_RESUMING,
	[DB_DELETING] = 0,
	[DB_READY] = 1U << DB_CREATING,
};

static void note_created(struct sandbox *sb)
{
	journal_add(&sb->journal, sb->row.created_ms, LOG_LEVEL_INFO,
		    "created from template %s: %u CPUs, %" PRIu64 " MiB of memory",
		    sb->row.template_name, sb->row.cpus, sb->row.memory_mib);
}

struct sandbox *sandbox_new(struct manager *m, struct db_sandbox *row)
{
	struct sandbox *sb = xcalloc(1, sizeof(*sb));

	*sb = (struct sandbox){ .m = m,
				.row = *row,
				.res = RESOURCES_INIT,
				.merged = DISK_MERGE_INIT,
				.cancel_fd = -1 };
	db_sandbox_init(row);
	sb->meter = meter_new();
	sandbox_list_push(&m->all, sb);
	note_created(sb);
	return sb;
}

static void list_remove(struct sandbox_list *list, const struct sandbox *sb)
{
	for (size_t i = 0; i < list->n; i++) {
		if (list->at[i] != sb)
			continue;
		list->n--;
		memmove(&list->at[i], &list->at[i + 1], (list->n - i) * sizeof(list->at[0]));
		return;
	}
}

void sandbox_rename(struct sandbox *sb, struct db_sandbox *row)
{
	assert(id_equal(&sb->row.id, &row->id));
	db_sandbox_done(&sb->row);
	sb->row = *row;
	db_sandbox_init(row);
	journal_done(&sb->journal);
	note_created(sb);
	list_remove(&sb->m->all, sb);
	sandbox_list_push(&sb->m->all, sb);
}

void sandbox_free(struct sandbox *sb)
{
	assert(sb->watch == NULL && !sb->busy);
	ready_leave(sb);
	egress_detach(sb);
	merge_forget(sb);
	restart_forget(sb);
	proxy_abort_all(&sb->streams, 0);
	list_remove(&sb->m->all, sb);
	resources_close(&sb->res);
	meter_free(sb->meter);
	fd_close(&sb->cancel_fd);
	destroy_waiters_done(&sb->waiters);
	journal_done(&sb->journal);
	idle_waiters_done(&sb->idle);
	db_sandbox_done(&sb->row);
	free(sb);
}

static void note_state(struct sandbox *sb, enum db_state state, const char *error)
{
	if (error != NULL && error[0] != '\0')
		journal_add(&sb->journal, 0, LOG_LEVEL_ERROR, "%s, was %s: %s",
			    db_state_name(state), db_state_name(sb->row.state), error);
	else if (state != sb->row.state)
		journal_add(&sb->journal, 0, LOG_LEVEL_INFO, "%s, was %s", db_state_name(state),
			    db_state_name(sb->row.state));
}

static bool is_lasting(enum db_state state)
{
	return state == DB_RUNNING || state == DB_PAUSED || state == DB_STOPPED;
}

bool sandbox_write(struct sandbox *sb)
{
	struct err e = { 0 };

	sb->unwritten = db_sandbox_update(sb->m->db, &sb->row, &e) < 0;
	if (!sb->unwritten) {
		if (is_lasting(sb->row.state))
			db_set_str(&sb->row.cause, ""); /* of what comes next nobody knows yet */
		return true;
	}
	log_error("store.write_failed", kv_str("id", sb->row.id.s), kv_str("error", e.msg));
	reap_later(sb->m);
	return false;
}

bool sandbox_set_state(struct sandbox *sb, enum db_state state, const char *last_error)
{
	assert(state == sb->row.state || state == DB_DELETING ||
	       (followers[sb->row.state] & 1U << state) != 0);
	log_info("sandbox.state", kv_str("id", sb->row.id.s),
		 kv_str("from", db_state_name(sb->row.state)), kv_str("to", db_state_name(state)));
	note_state(sb, state, last_error);
	if (state != DB_RUNNING) {
		merge_forget(sb); /* its disk is about to be another one */
		sb->condition = SANDBOX_WELL;
		sb->frozen = (struct frozen){ 0 };
		sb->probe.missed = 0;
	}
	sb->row.state = state;
	if (last_error != NULL)
		db_set_str(&sb->row.last_error, last_error);
	return sandbox_write(sb);
}

void sandbox_begin(struct sandbox *sb)
{
	assert(!sb->busy);
	sb->busy = true;
	sb->m->n_busy++;
}

void sandbox_end(struct sandbox *sb)
{
	struct manager *m = sb->m;

	sb->busy = false;
	sb->goes_on = false;
	fd_close(&sb->cancel_fd);
	m->n_busy--;
}

void sandbox_when_idle(struct sandbox *sb,
		       void (*fn)(struct sandbox *sb, const struct err *gone, void *arg), void *arg)
{
	assert(sb->busy);
	idle_waiters_push(&sb->idle, (struct idle_waiter){ fn, arg });
	sandbox_hurry(sb);
}

void sandbox_hurry(struct sandbox *sb)
{
	bool useless = sb->row.state == DB_PAUSING ? sb->doomed : sb->row.state == DB_PAUSED;

	if (sb->wanted)
		useless = sb->doomed || sb->m->closing;
	if (useless && sb->cancel_fd >= 0)
		ignore_err(eventfd_write(sb->cancel_fd, 1)); /* it cannot overflow by ones */
}

bool sandbox_is_awaited(const struct sandbox *sb)
{
	return sb->doomed || sb->idle.n > 0 || sb->m->closing;
}

void sandbox_idle(struct sandbox *sb)
{
	if (sb->doomed && !sb->busy) {
		sandbox_start_destroy(sb);
		return;
	}
	/* The first may begin an operation that the others wait for again. */
	while (sb->idle.n > 0 && !sb->busy) {
		struct idle_waiter w = sb->idle.at[0];

		sb->idle.n--;
		memmove(&sb->idle.at[0], &sb->idle.at[1], sb->idle.n * sizeof(w));
		w.fn(sb, NULL, w.arg);
	}
}

/* Whoever waited for a sandbox that is no more. */
static void tell_gone(struct idle_waiters *waiters, const struct sandbox_id *id)
{
	struct err e = { 0 };

	err_set(&e, ERR_NOT_FOUND, "sandbox %s was removed", id->s);
	vec_foreach (w, waiters)
		w->fn(NULL, &e, w->arg);
	idle_waiters_done(waiters);
}

void sandbox_drop(struct sandbox *sb, unsigned leaks)
{
	struct manager *m = sb->m;
	struct destroy_waiters waiters = sb->waiters;
	struct idle_waiters idle = sb->idle;
	struct sandbox_id id = sb->row.id;
	/* Nobody hears of the end of one that nobody had. */
	enum db_state end = sb->row.state == DB_READY ? DB_READY : DB_DELETING;
	struct err e = { 0 };

	sb->waiters = (struct destroy_waiters){ 0 };
	sb->idle = (struct idle_waiters){ 0 };
	if (leaks > 0) {
		err_set(&e, ERR_SYSTEM,
			"sandbox %s: %u resources could not be released yet; vivd goes on trying, "
			"its log says which",
			sb->row.id.s, leaks);
		sb->row.leaked = true;
		sandbox_set_state(sb, end, e.msg);
		reap_later(m);
	} else if (db_sandbox_delete(m->db, &sb->row.id, &e) == 0) {
		log_info("sandbox.removed", kv_str("id", sb->row.id.s));
		sandbox_free(sb);
	} else {
		sb->row.leaked = true;
		sandbox_set_state(sb, end, e.msg);
		reap_later(m);
	}
	vec_foreach (w, &waiters)
		w->done(err_is_set(&e) ? &e : NULL, w->arg);
	destroy_waiters_done(&waiters);
	tell_gone(&idle, &id);
}

struct sandbox *sandbox_by_id(struct manager *m, const struct sandbox_id *id)
{
	vec_foreach (at, &m->all) {
		if (id_equal(&(*at)->row.id, id))
			return *at;
	}
	return NULL;
}

struct sandbox *manager_find(struct manager *m, const char *text, struct err *e)
{
	struct sandbox *named = NULL;
	struct sandbox *found = NULL;
	size_t n = strlen(text);
	size_t hits = 0;

	vec_foreach (at, &m->all) {
		const struct db_sandbox *row = &(*at)->row;

		if (row->state == DB_READY)
			continue; /* nobody's */
		if (streq(row->id.s, text))
			return *at; /* even if another one is named like this id */
		if (n > 0 && streq(row->name, text))
			named = *at;
		if (n > 0 && str_starts(row->id.s, text)) {
			found = *at;
			hits++;
		}
	}
	if (named != NULL)
		return named;
	if (hits == 1)
		return found;
	if (hits > 1)
		err_set(e, ERR_INVALID, "'%s' is the beginning of %zu sandbox ids; give more of it",
			text, hits);
	else
		err_set(e, ERR_NOT_FOUND, "no sandbox '%s'; `viv ls` shows those that exist", text);
	return NULL;
}

void manager_each(struct manager *m, void (*fn)(struct sandbox *sb, void *arg), void *arg)
{
	for (size_t i = m->all.n; i-- > 0;) {
		if (m->all.at[i]->row.state != DB_READY)
			fn(m->all.at[i], arg);
	}
}

const char *sandbox_condition(const struct sandbox *sb)
{
	static const char *const names[] = {
		[SANDBOX_WELL] = "",
		[SANDBOX_DISK_FULL] = "disk-full",
		[SANDBOX_DISK_FAILED] = "disk-failed",
		[SANDBOX_SILENT] = "silent",
	};
	static_assert(ARRAY_SIZE(names) == SANDBOX_CONDITION_N, "every condition has a name");

	return names[sb->condition];
}

const struct db_sandbox *sandbox_row(const struct sandbox *sb)
{
	return &sb->row;
}

const char *sandbox_id(const struct sandbox *sb)
{
	return sb->row.id.s;
}

int sandbox_address(const struct sandbox *sb, struct in_addr *out, struct err *e)
{
	if (sb->row.state != DB_RUNNING || (sb->busy && !sb->goes_on) || sb->unsure)
		return err_set(e, ERR_NOT_FOUND, "sandbox %s is %s, not running", sb->row.id.s,
			       db_state_name(sb->row.state));
	*out = sb->res.slot.addr;
	return 0;
}

struct proxy_group *sandbox_streams(struct sandbox *sb)
{
	return &sb->streams;
}

size_t sandbox_proxied(const struct sandbox *sb)
{
	return sb->streams.n;
}

const struct plan_timing *sandbox_timing(const struct sandbox *sb)
{
	return &sb->timing;
}

const struct plan_timing *sandbox_pause_timing(const struct sandbox *sb)
{
	return &sb->pause_timing;
}

/* Its directory by its name: res is a worker's while an operation runs, and has none open when the
 * daemon was started after the sandbox came to rest. */
static int open_own_dir(const struct sandbox *sb)
{
	return openat(sb->m->sandboxes_fd, sb->row.id.s,
		      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

uint64_t sandbox_checkpoint_allocated(const struct sandbox *sb)
{
	auto_close int dirfd = -1;
	auto_close int fd = -1;
	uint64_t bytes = 0;

	if (sb->row.generation == 0)
		return 0;
	dirfd = open_own_dir(sb);
	fd = dirfd < 0 ? -1 : checkpoint_peek(dirfd, sb->row.generation, &bytes);
	return fd < 0 ? 0 : bytes + disk_allocated(sb->m->disk, fd);
}

uint64_t sandbox_disk_allocated(const struct sandbox *sb)
{
	auto_close int dirfd = -1;

	if (sb->row.state == DB_PAUSED)
		return sandbox_checkpoint_allocated(sb);
	/* While an operation runs the layers are its worker's. */
	dirfd = sb->busy ? -1 : open_own_dir(sb);
	return dirfd < 0 ? 0 : disk_allocated(sb->m->disk, dirfd);
}

const char *sandbox_template(const struct sandbox *sb)
{
	const char *name = sb->row.template_name;

	/* A snapshot may be of what was made of a snapshot. */
	for (unsigned i = 0; i < SNAPSHOT_DEPTH_MAX; i++) {
		const struct snapshot *s = snapshot_find(sb->m, name);

		if (s == NULL)
			return name;
		name = s->template_name;
	}
	return "";
}

const char *sandbox_origin(const struct sandbox *sb)
{
	uint64_t id;
	int r = sb->busy || sb->res.dirfd < 0 ? -EBUSY : image_find(sb->res.dirfd, &id);

	if (strchr(sb->row.template_name, ':') != NULL)
		return "snapshot"; /* its id is what the sandbox says is its template */
	if (r < 0)
		return "";
	return r > 0 ? "warm" : "boot";
}

char *sandbox_console(const struct sandbox *sb)
{
	if (sb->busy)
		return str_dup("");
	return console_tail(&sb->res.console, CONSOLE_RING_BYTES);
}

int64_t sandbox_pid(const struct sandbox *sb)
{
	return sb->busy || sb->res.vmm == NULL ? 0 : vmm_pid(sb->res.vmm);
}
