/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What removes volatile things that no sandbox owns: for the start of a daemon and for the doctor.
 * Each says in the log what it removed, and what it could not. Whether a thing has an owner is for
 * the caller to know.
 */
#pragma once

#include "base/id.h"
#include "base/op.h"
#include "net/net.h"

enum { SWEEP_TIMEOUT_MS = 30000 };

/** sweep_cgroup() - end the processes of a cgroup and remove it. Return: 0; -errno, op->err set */
must_check int sweep_cgroup(int root_fd, const char *name, struct op *op);

/** sweep_run_directory() - remove a run directory. Return: 0; -errno with op->err set */
must_check int sweep_run_directory(int run_fd, const char *name, struct op *op);

/** sweep_slots() - as net_sweep(). Return: 0; -errno with op->err set */
must_check int sweep_slots(struct net *net, bool (*known)(const struct sandbox_id *id, void *arg),
			   void *arg, struct op *op);
