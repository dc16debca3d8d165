/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Standing still: all that clients start lives in one cgroup of the guest, which is frozen just
 * before the VM is saved, and thawed behind the barrier of a restored one. The agent is not in it.
 */
#pragma once

#include "agent/agent.h"
#include "base/err.h"
#include "http/router.h"

/** freeze_setup() - make the cgroup, at boot. @out: FREEZER_NONE; gets its files, open until the
 * agent ends. Return: 0; -errno with @e set */
must_check int freeze_setup(struct freezer *out, struct err *e);

/** freeze_serve() - POST /freeze: everything stands still, and what was written is on the disk, or
 * with {"sync": false} maybe only in memory */
void freeze_serve(struct http_exchange *x, const struct route_params *params, void *arg);

/** freeze_serve_undo() - POST /unfreeze */
void freeze_serve_undo(struct http_exchange *x, const struct route_params *params, void *arg);

/** freeze_thaw() - let everything go on. Return: 0 (also if it does); -errno */
must_check int freeze_thaw(struct agent *a);
