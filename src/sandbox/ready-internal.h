/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by those who keep sandboxes ready, and what others of sandbox/ have to do with them. */
#pragma once

#include "base/vec.h"
#include "os/proc.h"
#include "sandbox/ready.h"
#include "sandbox/sandbox-internal.h"

/* A pool. */
struct tended {
	struct db_pool wish;
	uint64_t retry_ms; /* the last back-off; 0 = nothing ever failed */
	uint64_t not_before_ns;
	uint64_t again_ms; /* the same, CLOCK_REALTIME */
	char error[sizeof(((struct err *)NULL)->msg)];
};
VEC_DEFINE(tended_list, struct tended)

struct ready_making;

struct ready {
	struct manager *m; /* borrowed */
	uv_timer_t quiet;
	uv_fs_event_t templates;     /* on their directory: they are also built by others */
	struct tended_list pools;    /* by name; at most READY_POOLS_MAX */
	struct ready_making *making; /* the one under way; NULL = none */
};

/* A sandbox that waits. */
struct member {
	struct sandbox *sb;
	uv_poll_t process;
	struct proc_meter meter;
};

/* What a create of a pool's sizes would do now. */
struct ready_present {
	struct db_sandbox spec; /* owned */
	struct template t;
	struct checkpoint image;
	int image_fd; /* owned; -1 = it would boot */
};

/** ready_present_done() - forget it; idempotent */
void ready_present_done(struct ready_present *p);

/**
 * ready_look() - see what a create of a pool's sizes would do now
 * @out:	image_fd is -1 before; ready_present_done() is the caller's in any case
 *
 * Return: 1 it would use the image; 0 it would boot; -errno with @e set.
 */
must_check int ready_look(struct manager *m, const struct db_pool *wish, struct ready_present *out,
			  struct err *e);

/** ready_pool() - a template's pool; borrowed until pools change; NULL = it has none */
struct tended *ready_pool(const struct ready *rd, const char *template_name);

/** ready_is_of() - whether a sandbox is of a pool: it waits, is being made for it, or about to go
 */
bool ready_is_of(const struct sandbox *sb, const struct tended *pool);

/** ready_is_made_of() - whether one is just what a create would make of an image. The image's own
 * sizes are the sandbox's, but for the disk */
bool ready_is_made_of(const struct sandbox *sb, const struct template *t,
		      const struct checkpoint *image, uint64_t disk_mib);

/** ready_keep() - one that is made waits from now on. Return: 0; -errno: its VMM cannot be watched
 */
must_check int ready_keep(struct sandbox *sb);

/** ready_end_members() - end those that wait, of one pool, or of all with NULL */
void ready_end_members(struct manager *m, const struct tended *pool);

/** ready_back_off() - what failed is not tried again for some time, which doubles unless all was
 * well for a while; @event: of the log, when it is the first time */
void ready_back_off(struct ready *rd, struct tended *pool, const char *event,
		    const struct err *why);

/** ready_memory_bound() - how much memory sandboxes that wait may have, MiB */
uint64_t ready_memory_bound(const struct manager *m);

/** ready_watch_templates() - look at the pools when templates change, if there are pools. Without
 * it, what is old is noticed later: behind the next operation, or by the next create */
void ready_watch_templates(struct ready *rd);

/** ready_open() - keep pools filled, from now on. Return: 0; -errno with @e set */
must_check int ready_open(struct manager *m, struct err *e);

/** ready_idle() - no operation runs: what is missing may be made in a moment */
void ready_idle(struct manager *m);

/** ready_yield() - somebody waits for a create: what is being made for a pool is given up */
void ready_yield(struct manager *m);

/**
 * ready_find() - look for a sandbox that is as a create would make it now
 * @t:		its template
 * @image:	of that, of which the create would be made
 * @spec:	what is wished for; complete
 *
 * It stays in its pool until ready_leave(). Return: borrowed; NULL: there is none.
 */
struct sandbox *ready_find(const struct manager *m, const struct template *t,
			   const struct checkpoint *image, const struct db_sandbox *spec);

/** ready_leave() - a sandbox is not the pool's any more, if it was; who calls has it from then on
 */
void ready_leave(struct sandbox *sb);

/** ready_forget() - a template was removed: its pool, too */
void ready_forget(struct manager *m, const char *template_name);

/** ready_end() - at shutdown: end what waits, and what is being made */
void ready_end(struct manager *m);

/** ready_close() - no operation runs any more */
void ready_close(struct manager *m);
