/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of sandbox/ share and nobody else sees. */
#pragma once

#include "base/json.h"
#include "base/op.h"
#include "base/vec.h"
#include "disk/disk.h"
#include "guest/guest.h"
#include "net/net.h"
#include "sandbox/checkpoint.h"
#include "sandbox/console.h"
#include "sandbox/death.h"
#include "sandbox/frozen.h"
#include "sandbox/images.h"
#include "sandbox/journal.h"
#include "sandbox/metrics.h"
#include "sandbox/probe.h"
#include "sandbox/sandbox.h"
#include "template/kernel.h"
#include "template/template.h"
#include "vmm/vmm.h"

enum { AGENT_VERSION_SIZE = 32 };

VEC_DEFINE(sandbox_list, struct sandbox *)

/* What is currently true of a sandbox. Owned by the worker while an operation runs, else by the
 * loop. */
struct resources {
	int dirfd;     /* <state>/sandboxes/<id>; owned; -1 */
	int run_dirfd; /* <run>/<id>; owned; -1 */
	int cgroup_fd; /* owned; -1 */
	struct net_slot slot;
	struct vmm *vmm; /* owned; NULL = none */
	struct console console;
	struct template template;           /* of a sandbox that is being created */
	char start[TEMPLATE_START_ID_SIZE]; /* what was started in it; "" = nothing */
	char start_from[NAME_MAX_LEN + 1];  /* template that says what a boot starts in it */
	char *start_fault;                  /* why that did not come up; owned; NULL = it did */
	int origin_fd; /* checkpoint that it is restored from; owned; -1 = none */
	struct checkpoint origin;
	int draft_fd; /* checkpoint that is being made; owned; -1 = none */
	struct checkpoint draft;
	const char *kernel_words; /* added to its kernel's command line; static; NULL = none */
	int draft_owner_fd;       /* whose it will be; owned; -1 = the sandbox's */
	struct snapshot_draft *snapshot; /* that is being made of it; borrowed; NULL = none */
	struct flat_draft *flat; /* template that is being made of it; borrowed; NULL = none */
	bool draft_kept;
	struct memory_saving *saving; /* of a checkpoint that is being made; owned; NULL = none */
	struct guest_line line;       /* of the same; owned; closed otherwise */
	struct syncing *syncing;      /* of a disk that is being made (durable.c); owned; NULL */
	struct disk_merge merged;     /* of its disk, to be put in place; owned */
	bool layer_unused;            /* the disk's top layer is for a VM that has not got it */
	char kernel_version[KERNEL_VERSION_SIZE];
	char agent_version[AGENT_VERSION_SIZE];
};

#define RESOURCES_INIT                                                                             \
	{                                                                                          \
		.dirfd = -1, .run_dirfd = -1, .cgroup_fd = -1, .slot = NET_SLOT_INIT,              \
		.console = CONSOLE_INIT, .origin_fd = -1, .draft_fd = -1, .draft_owner_fd = -1,    \
		.merged = DISK_MERGE_INIT                                                          \
	}

struct destroy_waiter {
	void (*done)(const struct err *e, void *arg);
	void *arg;
};
VEC_DEFINE(destroy_waiters, struct destroy_waiter)

/* Somebody who waits for the end of the operation under way. */
struct idle_waiter {
	void (*fn)(struct sandbox *sb, const struct err *gone, void *arg);
	void *arg;
};
VEC_DEFINE(idle_waiters, struct idle_waiter)

/* A pause at the deadline that failed. */
struct expiry {
	uint64_t again_ms; /* when it is tried again, CLOCK_REALTIME; 0 = none failed */
	uint64_t wait_ms;  /* back-off */
};

/* When it was used last (idle.c). */
struct idleness {
	uint64_t touched_ns; /* by who asked for it, CLOCK_MONOTONIC */
	uint64_t link_bytes; /* of its link, as seen last */
	uint64_t probes;     /* that had been sent then */
	uint64_t again_ns;   /* a pause failed, and is not tried before */
	uint64_t wait_ms;    /* back-off */
};

struct sandbox {
	struct manager *m; /* borrowed */
	struct db_sandbox row;
	struct resources res;
	struct plan_timing timing;       /* of its last start */
	struct plan_timing pause_timing; /* of its last pause or stop */
	struct expiry expiry;
	struct idleness idleness;
	enum sandbox_condition condition; /* while it runs */
	struct frozen frozen;
	struct agent_probe probe;
	struct journal journal;
	bool busy;      /* an operation owns res */
	bool goes_on;   /* but it only looks: the guest can be used meanwhile */
	bool wanted;    /* what is done with it: nobody who waits for its end hurries that */
	bool doomed;    /* destroy as soon as it is not busy */
	bool changing;  /* its agent is being told of a change of the row */
	bool unsure;    /* adoption could not be decided yet; nothing of it is touched */
	bool unwritten; /* the store could not take its row, which the reaper tries again */
	int cancel_fd;  /* eventfd that ends a create, a pause or a flattening of what is removed,
			* or what a pause does at leisure; owned; -1 */
	uv_timer_t *restart;                 /* armed while it waits to be started again; NULL */
	struct member *member;               /* of the pool, where it waits; NULL = it does not */
	struct watch *watch;                 /* loop handles on its VM; NULL = not watched */
	struct meter *meter;                 /* what it used; owned */
	struct egress_change *egress_change; /* under way; NULL = none */
	struct merge *merge;                 /* of its disk's layers, under way; NULL = none */
	struct disk_merge merged; /* what that made; owned; its next checkpoint uses it */
	struct proxy_group streams;
	struct destroy_waiters waiters;
	struct idle_waiters idle;
};

struct resting;
VEC_DEFINE(restings, struct resting *)

/* The queue of rests.c. */
struct rests {
	struct restings waiting; /* the first has the next turn; owned */
	unsigned under_way;
	bool serving;
};

struct manager {
	uv_loop_t *loop;              /* borrowed */
	struct manager_config config; /* strings owned */
	struct db *db;
	struct net *net;
	const struct vmm_ops *vmm;
	const struct disk_ops *disk;
	struct instance_tag tag;
	int lock_fds[2];  /* state and run directory: one daemon each */
	int sandboxes_fd; /* <state>/sandboxes */
	int snapshots_fd; /* <state>/snapshots */
	int run_fd;       /* <run> */
	int cgroup_fd;    /* the instance's cgroup */
	char cgroup_name[32];
	char vmm_version[VMM_VERSION_SIZE];
	struct accel *accel; /* owned; how guests are run */
	char newest_kernel[KERNEL_VERSION_SIZE];
	struct timespec kernels_changed; /* when newest_kernel was so; 0 = not looked for */
	uint64_t host_memory_mib;
	struct sandbox_list all; /* oldest first */
	unsigned n_busy;         /* operations: while there are any, pools and images wait */
	unsigned n_looking;      /* those who only read: only a shutdown waits for them */
	bool closing;
	void (*closed)(void *arg);
	void *closed_arg;
	uv_timer_t *reaper; /* armed while something is leaked, unsure or unwritten */
	uint64_t reap_ms;   /* its current back-off */
	struct pool *pool;  /* keeps slots ready; NULL = none are wanted */
	struct snapshots *snapshots;
	struct ready *ready;     /* keeps sandboxes ready for creates; owned */
	struct warm *warm;       /* makes images of templates; NULL = none are wanted */
	struct sampler *sampler; /* ticks while a VM is watched; NULL = none is */
	struct known_images known_images;
	struct kernels_watch *kernels_watch; /* NULL = not begun */
	struct images_check *images_check;   /* under way; NULL = none */
	struct create_stats creates;
	struct rests rests;
	uint64_t oom_kills; /* death_oom_kills(), as seen last */
	bool merging;       /* layers of a disk, of one sandbox at a time */
	bool disk_low;      /* less is free than the reserve; it was logged */
	int64_t clock_ns;   /* CLOCK_REALTIME less CLOCK_MONOTONIC, as seen last; 0 = not yet */
};

/** sandbox_new() - put a sandbox into the table; @row moves into it */
struct sandbox *sandbox_new(struct manager *m, struct db_sandbox *row);

/** sandbox_rename() - the row of a sandbox becomes another one with the same id, and it the newest
 * of the table; @row moves into it */
void sandbox_rename(struct sandbox *sb, struct db_sandbox *row);

/** sandbox_free() - take it out of the table and forget it; its watch must be off */
void sandbox_free(struct sandbox *sb);

/**
 * identity_tell() - tell a guest's agent all that its row says it is (POST /init)
 * @vmm_pidfd:		its POLLIN ends the wait; -1 = none
 * @wake:		of a guest that was restored; NULL = it was booted, or knows already
 * @out_version:	the agent's version
 *
 * Thread: worker. Return: 0; -errno with op->err set.
 */
must_check int identity_tell(const struct db_sandbox *row, struct in_addr addr, int vmm_pidfd,
			     const struct guest_wake *wake, char out_version[AGENT_VERSION_SIZE],
			     struct op *op);

/**
 * sandbox_reserve() - commit the row of a new sandbox, before anything of it is made
 * @spec:	complete but for its id, times and what it is made with, which are filled in
 * @state:	DB_CREATING or DB_READY
 *
 * Return: 0; -errno with @e set (ERR_CONFLICT: the name is taken).
 */
must_check int sandbox_reserve(struct manager *m, struct db_sandbox *spec, enum db_state state,
			       struct err *e);

/** sandbox_set_origin() - the checkpoint that a sandbox is made from; @fd becomes the sandbox's */
void sandbox_set_origin(struct sandbox *sb, int fd, const struct checkpoint *origin);

/** sandbox_note_versions() - have its row say what it runs with now: VMM, kernel and agent */
void sandbox_note_versions(struct sandbox *sb);

/** spec_take_sizes() - what is no wish of one that is made from a checkpoint: it is as it was saved
 */
void spec_take_sizes(struct db_sandbox *spec, const struct checkpoint *origin);

/** sandbox_by_id() - the sandbox of an id, not of a name or prefix; NULL if there is none */
struct sandbox *sandbox_by_id(struct manager *m, const struct sandbox_id *id);

/**
 * sandbox_write() - bring a sandbox's row into the store as it is in memory
 *
 * Return: whether the store has it. If not, because its disk is full for one, the row holds in
 * memory, and is written by the reaper or with the next change, whichever comes first.
 */
bool sandbox_write(struct sandbox *sb);

/**
 * sandbox_set_state() - the one place where a state changes: checks the table, writes the row
 * @last_error:	why, for people; NULL leaves what is there
 *
 * Return: as sandbox_write().
 */
bool sandbox_set_state(struct sandbox *sb, enum db_state state, const char *last_error);

/** manager_check_open() - whether operations may begin still. Return: 0; -errno with @e set
 * (ERR_EXHAUSTED: the daemon is shutting down) */
must_check int manager_check_open(const struct manager *m, struct err *e);

/** manager_check_can_save() - whether the VMM in use can save a guest's memory. Return: 0; -errno
 * with @e set (ERR_UNSUPPORTED) */
must_check int manager_check_can_save(const struct manager *m, struct err *e);

/** sandbox_check_idle() - whether a running sandbox can begin an operation. Return: 0; -errno with
 * @e set, as sandbox_check_running() and manager_check_open() */
must_check int sandbox_check_idle(const struct sandbox *sb, struct err *e);

/** sandbox_check_usable() - whether a running sandbox can begin an operation that its agent has a
 * part in. Return: 0; -errno with @e set, as frozen_check() and sandbox_check_idle() */
must_check int sandbox_check_usable(const struct sandbox *sb, struct err *e);

/** sandbox_check_paused() - whether a paused sandbox can begin an operation. Return: 0; -errno with
 * @e set, as manager_check_open(), or ERR_CONFLICT */
must_check int sandbox_check_paused(const struct sandbox *sb, struct err *e);

/** sandbox_check_at_rest() - whether one that is paused or stopped, with nothing of its last VM
 * left, can begin an operation. Return: as sandbox_check_paused() */
must_check int sandbox_check_at_rest(const struct sandbox *sb, struct err *e);

/** sandbox_begin(), sandbox_end() - an operation starts to own, and gives back, the resources */
void sandbox_begin(struct sandbox *sb);
void sandbox_end(struct sandbox *sb);

/**
 * sandbox_when_idle() - be called when the operation under way has ended
 * @fn:	called once, on the loop; @gone is NULL, or says that the sandbox is no more (and @sb is
 *	NULL)
 */
void sandbox_when_idle(struct sandbox *sb,
		       void (*fn)(struct sandbox *sb, const struct err *gone, void *arg),
		       void *arg);

/** sandbox_template() - the template that a sandbox began as, also by way of a snapshot, as long as
 * that is there; borrowed until the loop runs again; "" = not known */
const char *sandbox_template(const struct sandbox *sb);

/** sandbox_hurry() - somebody waits, or it is removed: end what is of no use then. Harmless at any
 * time */
void sandbox_hurry(struct sandbox *sb);

/** sandbox_is_awaited() - whether somebody waits for the end of the operation under way */
bool sandbox_is_awaited(const struct sandbox *sb);

/** sandbox_idle() - after sandbox_end(): what waited for it begins, a destroy first; @sb may be
 * gone afterwards */
void sandbox_idle(struct sandbox *sb);

/**
 * pause_recover() - decide what becomes of a pause that a killed daemon was in
 * @vm_lives:	whether the sandbox's VM was adopted
 *
 * Thread: worker. Return: 1 it is paused, row.generation is its checkpoint; 0 it goes on, or was
 * stopped; -errno with op->err set: unsure.
 */
must_check int pause_recover(struct sandbox *sb, bool vm_lives, struct op *op);

/** pause_anyway() - as sandbox_pause(), also on a disk that is nearly full: it fails, and the
 * sandbox goes on, if there is too little */
must_check int pause_anyway(struct sandbox *sb, sandbox_done_fn done, void *arg, struct err *e);

/** manager_operation_ended() - the last line of every operation: a shutdown may wait for it */
void manager_operation_ended(struct manager *m);

/** manager_look_ended() - the same of who only read (n_looking): pools and images do not wait for
 * it, so that nobody who looks all the time can keep them from being made */
void manager_look_ended(struct manager *m);

/** sandbox_drop() - after all was released: delete the row, tell the waiters, free it */
void sandbox_drop(struct sandbox *sb, unsigned leaks);

/** sandbox_start_destroy() - begin to destroy a sandbox that is not busy */
void sandbox_start_destroy(struct sandbox *sb);

/** sandbox_stopped() - its VM is gone: release what is volatile, keep the data, remember why; then
 * it is started again, if its restart policy says so */
void sandbox_stopped(struct sandbox *sb, enum death_cause cause, const char *why);

/**
 * restart_plan() - its VM ended: decide whether it is to be started again; the next write of the
 * row keeps that, for a daemon that is killed meanwhile
 */
void restart_plan(struct sandbox *sb, enum death_cause cause);

/** restart_is_due() - whether its policy would start it again if its VM failed now */
bool restart_is_due(const struct sandbox *sb);

/** restart_later() - start it again after its back-off, if that is planned and it is at rest with
 * nothing leaked; harmless at any time */
void restart_later(struct sandbox *sb);

/** restart_forget() - not now, at least; the plan stays in the row. Idempotent */
void restart_forget(struct sandbox *sb);

/** watch_start() - watch a running VM: its end, its events, its console, its deadline */
void watch_start(struct sandbox *sb);

/** watch_deadline_changed() - wait for the row's new deadline instead */
void watch_deadline_changed(struct sandbox *sb);

/** sandbox_expires_ms() - when the row's deadline is acted upon, CLOCK_REALTIME; 0 = never */
uint64_t sandbox_expires_ms(const struct sandbox *sb);

/** watch_idle_changed() - wait anew for the end of its idle time */
void watch_idle_changed(struct sandbox *sb);

/** idle_begin() - it is watched from now on, which begins its idle time */
void idle_begin(struct sandbox *sb);

/** idle_renew() - its idle timeout is another one */
void idle_renew(struct sandbox *sb);

/** idle_is_over() - whether it has an idle timeout, and was not used for so long */
bool idle_is_over(const struct sandbox *sb);

/** idle_left_ms() - how long it may still be unused; 0 = no longer */
uint64_t idle_left_ms(const struct sandbox *sb);

/** sandbox_idle_out() - its idle time seems to be over: it is paused or removed, unless its link
 * tells otherwise */
void sandbox_idle_out(struct sandbox *sb);

/** sandbox_expire() - its deadline has come: it is removed, or paused */
void sandbox_expire(struct sandbox *sb);

/**
 * drain_start() - let streams into a sandbox come to their end, for as long as is configured, and
 * reset those that have none in sight or are late
 * @done:	called once, on the loop, maybe before this returns, when nothing leads into the
 *		guest any more: @ns is how long that took
 */
void drain_start(struct sandbox *sb, void (*done)(uint64_t ns, void *arg), void *arg);

/** merge_start() - after a checkpoint: make fewer layers of its disk's, if that is worth it, while
 * it goes on. Thread: loop */
void merge_start(struct sandbox *sb);

/** merge_forget() - end that, and forget what it made; harmless at any time. Thread: loop */
void merge_forget(struct sandbox *sb);

/** watch_stop() - stop watching, before the resources go to a worker */
void watch_stop(struct sandbox *sb);

/** egress_read() - where a sandbox may go, from its row; @out: zeroed. Return: 0; -errno, @e set */
must_check int egress_read(const struct sandbox *sb, struct net_egress *out, struct err *e);

/** egress_detach() - the slot is about to go: a change of its rules under way has nothing to take
 * back any more */
void egress_detach(struct sandbox *sb);

/** pool_open() - keep as many network slots ready as is configured; begins when the loop runs */
void pool_open(struct manager *m);

/** pool_wake() - something was taken from the pool. Thread: any that an operation runs on */
void pool_wake(struct manager *m);

/** pool_close() - end the filling, when no operation runs any more; what is ready stays */
void pool_close(struct manager *m);

/** kernels_idle() - no operation runs: what a new kernel made old may go in a moment */
void kernels_idle(struct manager *m);

/** kernels_close() - no operation runs any more */
void kernels_close(struct manager *m);

/** reap_later() - something is leaked or unsure: try again with back-off */
void reap_later(struct manager *m);

/** reap_stop() - forget to; at shutdown */
void reap_stop(struct manager *m);

/** reconcile() - bring intents and the host together at start. Return: 0; -errno with @e set */
must_check int reconcile(struct manager *m, struct err *e);

/** adopt_again() - an operation that decides on a sandbox that is unsure and not busy: whether its
 * VM runs and is watched, is gone, or is tried again later */
void adopt_again(struct sandbox *sb);

/** resources_close() - close all descriptors; nothing on the host changes */
void resources_close(struct resources *res);

/** spec_check_name() - whether a sandbox may be called this; "" = it has no name. Return: 0; -errno
 * with @e set */
must_check int spec_check_name(const char *name, struct err *e);

/** restore_check_host() - whether this host can go on with what was saved there
 * @advice:	what an error ends with
 *
 * Return: 0; -errno with @e set (ERR_CONFLICT: another VMM or CPU). */
must_check int restore_check_host(const struct manager *m, const struct checkpoint *c,
				  const char *advice, struct err *e);

/** restore_check_origin() - whether a checkpoint is this sandbox's kind, too. Return: as
 * restore_check_host() */
must_check int restore_check_origin(const struct sandbox *sb, const struct checkpoint *c,
				    struct err *e);

/**
 * resume_at() - give up what a sandbox is now, and go on from one of its checkpoints
 * @timeout_s:	NULL = its deadline stays
 * @done:	called once, later; not when this function fails
 *
 * It is not busy, and not watched. Return: 0; -errno with @e set: nothing changed.
 */
must_check int resume_at(struct sandbox *sb, uint64_t generation, const uint64_t *timeout_s,
			 sandbox_resume_fn done, void *arg, struct err *e);

/** resume_unasked() - boot a stopped one that nobody has to wait for: its deadline stays.
 * Return: as sandbox_resume() */
must_check int resume_unasked(struct sandbox *sb, sandbox_resume_fn done, void *arg, struct err *e);

/* A checkpoint that is open. */
struct checkpoint_ref {
	int fd; /* of its directory (checkpoint_open()); borrowed */
	struct checkpoint checkpoint;
};

/* Who is told of a sandbox that is made; the arguments of sandbox_create(). */
struct create_told {
	sandbox_create_fn done;
	void *arg;
	struct sandbox_id *out_id;
};

/**
 * sandbox_create_from() - make a new sandbox that goes on from a checkpoint, as a clone
 * @spec:	as for sandbox_create(), complete but for what the checkpoint says: CPUs, memory,
 *		disk, kernel and acceleration. An empty user or directory means the agent's default.
 * @origin:	borrowed for the call; the checkpoint may be removed as soon as @done was called
 *
 * Return: as sandbox_create(); ERR_CONFLICT also when this host cannot restore it.
 */
must_check int sandbox_create_from(struct manager *m, struct db_sandbox *spec,
				   const struct checkpoint_ref *origin,
				   const struct create_told *told, struct err *e);

/**
 * spec_merge_env() - put an environment below the one that is wished for
 * @below:	object of strings, borrowed; it is changed; NULL = no memory for it
 *
 * Return: 0; -errno with @e set.
 */
must_check int spec_merge_env(struct db_sandbox *spec, json_t *below, struct err *e);

/** spec_add_env() - the template's environment becomes the lowest layer of the sandbox's, and part
 * of it from then on. Return: 0; -errno with @e set */
must_check int spec_add_env(const struct template *t, struct db_sandbox *spec, struct err *e);

/** spec_complete() - check a wish and fill in the defaults. Return: 0; -errno with @e set */
must_check int spec_complete(struct manager *m, struct db_sandbox *spec, struct template *out,
			     struct err *e);
