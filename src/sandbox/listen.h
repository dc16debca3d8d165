/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Waiting for a guest's agent on a worker, with an ear at its VMM.
 *
 * While a worker has a VM nobody takes its events (watch.c). A guest that cannot write to the
 * host's disk stands still then, and its agent says nothing for as long as the wait may take,
 * although its VMM has told why at once. So whoever asks an agent listens to the VMM, too, and
 * fails early, with what it said.
 */
#pragma once

#include "sandbox/sandbox-internal.h"

struct listening {
	struct op op; /* what the agent is asked with, and nobody else */
	struct op_watch watch;
	struct sandbox *sb;
};

/**
 * listen_begin() - begin to; stays where it is until listen_end()
 * @op:		whose part this is
 * @timeout_ms:	0 = as long as @op may take
 */
void listen_begin(struct listening *l, struct sandbox *sb, const struct op *op,
		  uint64_t timeout_ms);

/**
 * listen_end() - take over how it ended
 * @r:		what the agent's part returned, with the error in l->op
 *
 * Return: @r, with op->err set if it is negative: ERR_EXHAUSTED or ERR_SYSTEM if the guest stands
 * still because of the host's disk.
 */
must_check int listen_end(const struct listening *l, int r, struct op *op);

/**
 * listen_thaw() - have the guest's processes go on, on the way back
 *
 * Those of a guest that stands still go on when it does (frozen.c). Return: 0; -errno with op->err
 * set.
 */
must_check int listen_thaw(struct sandbox *sb, struct op *op);
