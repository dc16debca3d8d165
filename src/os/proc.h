/* SPDX-License-Identifier: Apache-2.0 */
/* What a process of others uses: asked of the kernel alone, which disturbs nobody. */
#pragma once

#include "base/macros.h"

#include <sys/types.h>
#include <time.h>

/* A process to be asked again and again. */
struct proc_meter {
	int statm_fd;    /* its /proc/PID/statm; owned; -1 */
	clockid_t clock; /* its CPU time */
};

#define PROC_METER_INIT                                                                            \
	{                                                                                          \
		.statm_fd = -1                                                                     \
	}

struct proc_usage {
	uint64_t cpu_ns;     /* of all its threads since it began */
	uint64_t anon_bytes; /* memory that is its own: resident, and no page of a file */
};

/**
 * proc_meter_open() - begin to ask about a process
 * @pidfd:	of @pid; it proves that @pid was not given to another process
 *
 * Thread: any. Return: 0; -ESRCH it ended; -errno.
 */
must_check int proc_meter_open(pid_t pid, int pidfd, struct proc_meter *out);

/** proc_meter_read() - what it uses; two calls that never wait (0.01 ms). Return: 0; -ESRCH it
 * ended; -errno */
must_check int proc_meter_read(const struct proc_meter *m, struct proc_usage *out);

/** proc_meter_done() - stop asking; idempotent */
void proc_meter_done(struct proc_meter *m);

/* The host's memory. */
struct proc_memory {
	uint64_t total_mib;
	uint64_t available_mib; /* what processes can get without swapping, as the kernel guesses */
	uint64_t swap_mib;
};

/** proc_memory_read() - ask the kernel (0.02 ms; never waits). Return: 0; -errno */
must_check int proc_memory_read(struct proc_memory *out);

/* What this process uses. */
struct proc_self {
	uint64_t cpu_ns;
	uint64_t resident_bytes;
	uint64_t open_fds;
	uint64_t max_fds;
};

/** proc_self_read() - what is not known is 0 */
void proc_self_read(struct proc_self *out);
