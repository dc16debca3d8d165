/* SPDX-License-Identifier: Apache-2.0 */
/* Templates out of sandboxes' disks (doc/theory/checkpoints.md). Loop thread. */
#pragma once

#include "sandbox/sandbox.h"
#include "template/template.h"

/**
 * sandbox_flatten() - make a template of what is on a sandbox's disk: without its memory, and no
 * larger than its contents
 * @name:	of the template; one that has it is replaced when the new one is whole
 * @done:	called once, later, on the loop, with the template, or with @e set; not when this
 *		function itself fails
 *
 * A running sandbox is stopped first, and stays so; a paused one stays paused.
 * Return: 0 it is under way; -errno with @e set (ERR_INVALID: name; ERR_CONFLICT: a snapshot has
 * it, or the sandbox is changing).
 */
must_check int sandbox_flatten(struct sandbox *sb, const char *name,
			       void (*done)(const struct template *t, const struct err *e,
					    void *arg),
			       void *arg, struct err *e);
