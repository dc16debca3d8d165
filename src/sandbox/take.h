/* SPDX-License-Identifier: Apache-2.0 */
/* Making a checkpoint of a sandbox that goes on, for those in sandbox/ who need one. */
#pragma once

#include "sandbox/checkpoints.h"
#include "sandbox/sandbox-internal.h"

/* One that nobody keeps: it lies apart from the sandbox's own, and goes when it was used. */
struct passing {
	int owner_fd;              /* checkpoint_remove() of it; owned; -1 = none */
	struct checkpoint_ref ref; /* ref.fd owned; -1 */
};

#define PASSING_INIT                                                                               \
	{                                                                                          \
		.owner_fd = -1, .ref = {.fd = -1 }                                                 \
	}

/** passing_done() - close the descriptors; idempotent */
void passing_done(struct passing *p);

/**
 * take_passing() - make a checkpoint that is the caller's to remove
 * @use:	called once on the worker when it is there, while the sandbox is still busy and so
 *		cannot be removed; what it returns is the end of it all. NULL = nothing
 * @done:	called once, later, when the sandbox is not busy any more: with @p, whose
 *		descriptors move to whoever sets them to -1, or with @e set
 *
 * Return: as sandbox_checkpoint().
 */
must_check int take_passing(struct sandbox *sb,
			    int (*use)(struct sandbox *sb, struct passing *p, void *arg,
				       struct op *op),
			    void (*done)(struct sandbox *sb, struct passing *p,
					 const struct taken *t, const struct err *e, void *arg),
			    void *arg, struct err *e);

/** take_tidy() - after a passing checkpoint was removed, or failed: the place of such goes, too, as
 * soon as the sandbox is idle, if no other is in it. Thread: loop */
void take_tidy(struct sandbox *sb);

/**
 * take_recover() - bring a sandbox into order that was running when a daemon was killed, which
 * might have been making a checkpoint
 * @vm_lives:	whether the sandbox's VM was adopted
 *
 * Thread: worker. Return: 1 the row's generation changed; 0; -errno with op->err set: unsure.
 */
must_check int take_recover(struct sandbox *sb, bool vm_lives, struct op *op);

/** take_sweep() - remove the passing checkpoints that a killed daemon left. Thread: any that owns
 * the sandbox; errors are logged */
void take_sweep(struct sandbox *sb);
