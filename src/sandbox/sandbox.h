/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sandboxes: the only place that sees all drivers.
 *
 * Theory of operation. One manager per daemon owns the table of sandboxes; it lives on the loop
 * thread, and all functions here are called on it. A sandbox has an intent (its row in the store)
 * and resources (what is currently true: directories, slot, cgroup, VMM). An operation (create,
 * destroy, the end of a dead VM) runs a plan on a worker; while it does, the worker owns the
 * resources and the loop does not touch them; readers see the row, which only the loop writes.
 * There is one operation at a time per sandbox: destroy cancels a create and waits for anything
 * else; every other second operation is a conflict.
 */
#pragma once

#include "base/err.h"
#include "base/id.h"
#include "http/proxy.h"
#include "sandbox/plan.h"
#include "store/db.h"

#include <netinet/in.h>
#include <uv.h>

struct manager;
struct sandbox;

/* Settings, copied (strings are dup'ed) by manager_open(). */
struct manager_config {
	const char *state_dir;
	const char *run_dir;
	const char *vmm;          /* driver names */
	const char *vmm_binary;   /* NULL = the driver's default */
	const char *acceleration; /* "auto", "tcg", "kvm" */
	const char *kvm_stand_in; /* "tcg": what kvm is to do, tcg does (tests); else "kvm" */
	const char *disk;
	const char *agent_path;
	const char *vmm_shim_path; /* set by manager_open(): viv-vmm-shim.so beside the agent */
	const char *version;       /* of vivd */
	const char *tls_cert;    /* what clients of TLS are shown, for the doctor; NULL = no TLS */
	const char *tls_domain;  /* which they look for, with its port if it has one; NULL = none */
	const char *tls_program; /* viv-tls */
	const char *hook_program; /* viv-hook, for the doctor; it may not be there */
	const char *fault;        /* NULL = none */
	uint32_t net_range;       /* host byte order */
	unsigned net_prefix;
	unsigned slot_pool;       /* network slots kept ready; 0 = none */
	unsigned warm_images;     /* kept of each template; 0 = none are made or used */
	bool warm_behind;         /* one is made after a create that booted, unasked */
	uint64_t pool_memory_mib; /* of all sandboxes kept ready; 0 = a share of the host's */
	unsigned vmm_uid_base;
	unsigned default_cpus;
	unsigned max_cpus;
	uint64_t default_memory_mib;
	uint64_t max_memory_mib; /* 0 = the host's */
	uint64_t default_disk_mib;
	uint64_t agent_timeout_ms;   /* for a guest to come up under KVM */
	unsigned tcg_timeout_factor; /* that many times longer under TCG */
	uint64_t kvm_probe_timeout_ms;
	unsigned pause_drain_ms;     /* that requests get to end before a pause */
	unsigned pause_parallel;     /* pauses at a time, of those that wait for a turn (rests.h) */
	unsigned memory_overcommit;  /* a sandbox is counted as that share of its memory; >= 1 */
	uint64_t memory_reserve_mib; /* left to the host; 0 = a share of what it has */
	uint64_t disk_reserve_mib;   /* the same of the file system with the sandboxes */
	unsigned agent_probe_s;      /* how often agents are asked; 0 = never */
	unsigned agent_probe_timeout_s;
};

/**
 * manager_open() - open the store and the host's shared objects, and reconcile: adopt what lives,
 * release what is volatile and gone, finish what was under way; returns when the table is complete
 *
 * Thread: main, before the loop runs. Return: 0; -errno with @e set.
 */
must_check int manager_open(uv_loop_t *loop, const struct manager_config *config,
			    struct manager **out, struct err *e);

/**
 * manager_shutdown() - accept no more operations, cancel creates, and call @done when none runs
 *
 * VMs keep running: the next daemon adopts them.
 */
void manager_shutdown(struct manager *m, void (*done)(void *arg), void *arg);

/** manager_close() - forget everything (after manager_shutdown() was done); VMs keep running */
void manager_close(struct manager *m);

/** manager_uv_loop() - the loop it lives on */
uv_loop_t *manager_uv_loop(const struct manager *m);

/** manager_store() - its store, for what concerns no sandbox; borrowed */
struct db *manager_store(const struct manager *m);

/** manager_find() - a sandbox by id, by name, or by a prefix of an id that only one has.
 * Return: borrowed until the loop runs again; NULL with @e set (ERR_NOT_FOUND; ERR_INVALID:
 * ambiguous) */
struct sandbox *manager_find(struct manager *m, const char *text, struct err *e);

/** manager_each() - call @fn for every sandbox, newest first; those that wait in pools are nobody's
 */
void manager_each(struct manager *m, void (*fn)(struct sandbox *sb, void *arg), void *arg);

/* Versions that `viv version` shows; "" = unknown. */
struct manager_versions {
	const char *vivd;
	const char *vmm;
	const char *vmm_version;
	const char *kernel; /* newest, what a new sandbox would boot */
};

/** manager_versions() - of the daemon and what it uses; valid until the next call */
struct manager_versions manager_versions(struct manager *m);

/**
 * sandbox_create_fn - how a create ended
 * @sb:	the running sandbox, borrowed; NULL on failure
 * @e:	the error on failure
 */
typedef void (*sandbox_create_fn)(struct sandbox *sb, const struct err *e, void *arg);

/**
 * sandbox_create() - make a sandbox
 * @spec:	what is wished for: name, template_name, cpus, memory_mib, disk_mib, user, workdir,
 *		env_json, metadata_json, access_token, egress, traffic_token, mask_host, timeout_s;
 *		0 and "" mean the default.
 *		Its strings move into the sandbox when it is put into the table.
 * @done:	called once, later, on the loop; not when this function itself fails
 * @out_id:	the id that was reserved
 *
 * Return: 0 it is under way; -errno with @e set: refused, nothing was made.
 */
must_check int sandbox_create(struct manager *m, struct db_sandbox *spec, sandbox_create_fn done,
			      void *arg, struct sandbox_id *out_id, struct err *e);

/** sandbox_cancel_create() - undo a create that is under way (its caller went away); else nothing
 */
void sandbox_cancel_create(struct manager *m, const struct sandbox_id *id);

/**
 * sandbox_destroy() - end a sandbox and delete its data
 * @done:	called once, later, on the loop: @e is NULL or the error
 *
 * A create under way is cancelled. Several destroys of one sandbox all end well.
 */
void sandbox_destroy(struct sandbox *sb, void (*done)(const struct err *e, void *arg), void *arg);

/* How an operation on a sandbox ended: @e is NULL, or the error. */
typedef void (*sandbox_done_fn)(struct sandbox *sb, const struct err *e, void *arg);

/**
 * sandbox_pause() - save a running sandbox, memory and all, and let go of everything on the host
 * but the checkpoint
 * @done:	called once, later, on the loop; not when this function itself fails
 *
 * After a failure it runs on. Return: 0 it is under way; -errno with @e set (ERR_CONFLICT: it is
 * paused already, or changing).
 */
must_check int sandbox_pause(struct sandbox *sb, sandbox_done_fn done, void *arg, struct err *e);

/** sandbox_stop() - as sandbox_pause(), but only its disk is kept: what ran in it ends */
must_check int sandbox_stop(struct sandbox *sb, sandbox_done_fn done, void *arg, struct err *e);

/**
 * sandbox_resume_fn - how a resume ended
 * @sb:		NULL when it is gone
 * @resumed:	whether this call made it run; false: it ran already, or @e says why it does not
 */
typedef void (*sandbox_resume_fn)(struct sandbox *sb, bool resumed, const struct err *e, void *arg);

/**
 * sandbox_resume() - have a sandbox run: a paused one goes on, a stopped one boots
 * @memory:	false: a paused one boots from its disk, too, and its memory is given up
 * @timeout_s:	deadline from then on; 0 = none
 * @done:	called once, maybe before this function returns; not when it fails
 *
 * Waits for an operation that is under way. Return: 0; -errno with @e set.
 */
must_check int sandbox_resume(struct sandbox *sb, bool memory, uint64_t timeout_s,
			      sandbox_resume_fn done, void *arg, struct err *e);

/**
 * sandbox_wake() - have a paused sandbox run because somebody sent it a request, if it was made so
 *
 * It gets the time that it was made with, and 5 minutes at least. One that was stopped, or paused
 * without its memory, is not woken. As sandbox_resume() otherwise; ERR_NOT_FOUND: requests do not
 * wake it.
 */
must_check int sandbox_wake(struct sandbox *sb, sandbox_resume_fn done, void *arg, struct err *e);

/** sandbox_check_running() - whether it can be used now. Return: 0; -errno with @e set
 * (ERR_NOT_FOUND: stopped or paused; ERR_CONFLICT: it is changing) */
must_check int sandbox_check_running(const struct sandbox *sb, struct err *e);

/**
 * sandbox_set_deadline() - when a running sandbox ends by itself
 * @end_ms:	CLOCK_REALTIME; in the past = at once; 0 = never
 *
 * Return: 0; -errno with @e set: not running, or the store could not be written (nothing changed).
 */
must_check int sandbox_set_deadline(struct sandbox *sb, uint64_t end_ms, struct err *e);

/** sandbox_touch() - somebody wants it: its idle time begins anew */
void sandbox_touch(struct sandbox *sb);

/** sandbox_set_auto_pause() - whether a running sandbox is paused at its deadline, with its memory,
 * or removed; how it is paused stays if it was to be. Return: as sandbox_set_deadline() */
must_check int sandbox_set_auto_pause(struct sandbox *sb, bool pauses, struct err *e);

/* What becomes of a sandbox whose VM fails, or that nobody uses: as in its row. */
struct sandbox_policy {
	uint64_t restart_max;
	uint64_t idle_s;
	bool idle_kill;
};

/** sandbox_policy_of(), sandbox_policy_put() - that of a row */
static inline struct sandbox_policy sandbox_policy_of(const struct db_sandbox *row)
{
	return (struct sandbox_policy){ .restart_max = row->restart_max,
					.idle_s = row->idle_s,
					.idle_kill = row->idle_kill };
}

static inline void sandbox_policy_put(const struct sandbox_policy *policy, struct db_sandbox *row)
{
	row->restart_max = policy->restart_max;
	row->idle_s = policy->idle_s;
	row->idle_kill = policy->idle_kill;
}

/**
 * sandbox_set_policy() - change that, whether the sandbox runs or is at rest
 *
 * Its idle time and its tries begin anew; one that waits to be started again is not, if it is not
 * to be any more. Return: 0; -errno with @e set: it is being made, changed or removed, or the store
 * could not be written (nothing changed).
 */
must_check int sandbox_set_policy(struct sandbox *sb, const struct sandbox_policy *policy,
				  struct err *e);

/**
 * sandbox_change() - change who a sandbox's commands run as, and their environment
 * @user:	NULL = stays; copied
 * @env_json:	JSON object of strings, the whole environment; NULL = stays; copied
 * @done:	called once, later, on the loop, unless this function itself fails: @sb is the
 *		sandbox, or NULL with @e set
 *
 * The row is written first, then the agent of a running sandbox is told; one that cannot be told
 * gets its old row back. What was started before keeps its environment. If vivd is killed in
 * between, the guest learns of the row at its next start: the client, which has no answer, asks
 * again.
 *
 * Return: 0 it is under way; -errno with @e set: nothing changed.
 */
must_check int sandbox_change(struct sandbox *sb, const char *user, const char *env_json,
			      void (*done)(struct sandbox *sb, const struct err *e, void *arg),
			      void *arg, struct err *e);

/**
 * sandbox_set_egress() - change where a running sandbox may go, in place of what was set before
 * @wish:	its strings move out; its networks must be readable (net_egress_read())
 * @done:	called once, later, on the loop, with NULL when both row and rules have it, else
 *		with the error: then neither does; not called when this function itself fails
 *
 * New connections and those that are open follow the new rules from one moment on.
 * Return: 0 it is under way; -errno with @e set, nothing changed (ERR_NOT_FOUND not running;
 * ERR_CONFLICT it is changing).
 */
must_check int sandbox_set_egress(struct sandbox *sb, struct db_egress *wish,
				  void (*done)(const struct err *e, void *arg), void *arg,
				  struct err *e);

/* What is wrong with a sandbox that runs. */
enum sandbox_condition {
	SANDBOX_WELL,
	SANDBOX_DISK_FULL,   /* it stands still until there is room on the host's disk */
	SANDBOX_DISK_FAILED, /* it stands still, since the host's disk cannot be used */
	SANDBOX_SILENT,      /* its agent does not answer */
	SANDBOX_CONDITION_N
};

/** sandbox_condition() - "", "disk-full", "disk-failed", "silent"; static storage */
const char *sandbox_condition(const struct sandbox *sb);

/** sandbox_row() - its intent; borrowed, for reading */
const struct db_sandbox *sandbox_row(const struct sandbox *sb);

/** sandbox_id() - its id; borrowed */
const char *sandbox_id(const struct sandbox *sb);

/** sandbox_address() - the guest as the host sees it. Return: 0; -ENOENT with @e set: it is not
 * running */
must_check int sandbox_address(const struct sandbox *sb, struct in_addr *out, struct err *e);

/** sandbox_streams() - the group of proxied streams into a sandbox, reset when its VM ends */
struct proxy_group *sandbox_streams(struct sandbox *sb);

/** sandbox_proxied() - how many streams into a sandbox are open */
size_t sandbox_proxied(const struct sandbox *sb);

/** sandbox_timing() - how long the steps of its last start took */
const struct plan_timing *sandbox_timing(const struct sandbox *sb);

/** sandbox_pause_timing() - how long those of its last pause or stop took; none: n is 0 */
const struct plan_timing *sandbox_pause_timing(const struct sandbox *sb);

/** sandbox_disk_allocated() - bytes that its disk's layers take on the host, and, while it is
 * paused, its memory */
uint64_t sandbox_disk_allocated(const struct sandbox *sb);

/** sandbox_origin() - how its memory began: "boot", or "warm": as an image of a VM that had booted,
 * "snapshot": as the snapshot that is its template; "" = not known now */
const char *sandbox_origin(const struct sandbox *sb);

/** sandbox_checkpoint_allocated() - bytes that the checkpoint which it is at, or came from last,
 * takes on the host, of which a running one shares the layers; 0 = there is none */
uint64_t sandbox_checkpoint_allocated(const struct sandbox *sb);

/** sandbox_console() - the last of its console, NUL-terminated; caller frees */
char *sandbox_console(const struct sandbox *sb);

/** sandbox_pid() - its VMM's process; 0 = none */
int64_t sandbox_pid(const struct sandbox *sb);
