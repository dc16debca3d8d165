/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is done with checkpoints of sandboxes: made of one that goes on, listed, removed, gone back
 * to, and forked from. As in sandbox.h: loop thread; what takes time is called back for.
 */
#pragma once

#include "sandbox/checkpoint.h"
#include "sandbox/sandbox.h"

/* A checkpoint that was just made. */
struct taken {
	struct checkpoint checkpoint;
	uint64_t stall_ns;  /* how long the guest stood still */
	uint64_t freeze_ns; /* of its processes, before that */
	uint64_t total_ns;
};

/** sandbox_checkpoint_fn - how it ended: @t is borrowed; NULL with @e set on failure */
typedef void (*sandbox_checkpoint_fn)(struct sandbox *sb, const struct taken *t,
				      const struct err *e, void *arg);

/**
 * sandbox_checkpoint() - make a checkpoint of a running sandbox, which goes on and can be used
 * meanwhile; it stays until somebody removes it
 * @done:	called once, later, on the loop; not when this function itself fails
 *
 * Return: 0 it is under way; -errno with @e set (ERR_NOT_FOUND: it does not run; ERR_CONFLICT: it
 * is changing).
 */
must_check int sandbox_checkpoint(struct sandbox *sb, sandbox_checkpoint_fn done, void *arg,
				  struct err *e);

/* One of a list. */
struct checkpoint_view {
	struct checkpoint checkpoint;
	uint64_t allocated_bytes; /* of devices, memory and layers, shared ones too */
	struct err fault;         /* it cannot be used; of checkpoint only generation is set */
};
VEC_DEFINE(checkpoint_views, struct checkpoint_view)

/**
 * sandbox_checkpoints() - list a sandbox's checkpoints, the oldest first
 * @done:	called once, later: @views are borrowed; with @e set, what could be read
 *
 * Return: 0 it is under way; -errno with @e set.
 */
must_check int sandbox_checkpoints(struct sandbox *sb,
				   void (*done)(const struct checkpoint_views *views,
						const struct err *e, void *arg),
				   void *arg, struct err *e);

/**
 * sandbox_checkpoint_remove() - delete a checkpoint
 *
 * Return: 0 it is under way; -errno with @e set (ERR_CONFLICT: it is what a paused sandbox goes on
 * from, or the sandbox is changing). @done gets ERR_NOT_FOUND when there is none.
 */
must_check int sandbox_checkpoint_remove(struct sandbox *sb, uint64_t generation,
					 sandbox_done_fn done, void *arg, struct err *e);

/**
 * sandbox_rollback() - take a sandbox back to a checkpoint, in which it goes on; what it is now is
 * given up, but not before all of the checkpoint was checked
 * @generation:	of it; 0 = the last one
 * @timeout_s:	deadline from then on; 0 = none; NULL = as it was, for one that runs
 * @done:	called once, later; not when this function itself fails
 *
 * After a failure behind the check it is paused at the checkpoint.
 * Return: 0 it is under way; -errno with @e set (ERR_CONFLICT: it is changing).
 */
must_check int sandbox_rollback(struct sandbox *sb, uint64_t generation, const uint64_t *timeout_s,
				sandbox_resume_fn done, void *arg, struct err *e);

enum { FORK_CHILDREN_MAX = 100 };

struct fork_spec {
	unsigned count;     /* of children; 1 .. FORK_CHILDREN_MAX */
	uint64_t timeout_s; /* their deadline; 0 = none */
	bool paused_too;    /* a paused sandbox may be forked, too: from its checkpoint */
};

/* What became of one child. */
struct fork_child {
	struct sandbox_id id;
	struct err error; /* set: there is none */
};

/**
 * sandbox_fork() - make sandboxes that go on from where one is now; it runs on itself
 * @done:	called once, later: @children are borrowed; with @e set there are none
 *
 * Children are independent of one another and of the source: one checkpoint is made, and dropped
 * when all are. They have no name, and tokens of their own. Return: 0 it is under way; -errno with
 * @e set (ERR_CONFLICT: it is paused, or changing).
 */
must_check int sandbox_fork(struct sandbox *sb, const struct fork_spec *spec,
			    void (*done)(const struct fork_child *children, unsigned n,
					 const struct err *e, void *arg),
			    void *arg, struct err *e);
