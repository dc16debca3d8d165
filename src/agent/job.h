/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocking work off the loop's thread, on libuv's pool (four threads, made when first needed). What
 * a job touches belongs to it alone until it is done.
 */
#pragma once

#include "base/macros.h"

#include <uv.h>

struct job {
	uv_work_t req;
	void (*run)(struct job *job);  /* on a thread of the pool */
	void (*done)(struct job *job); /* on the loop's; the job may start anew or be freed */
};

/** job_start() - run, then tell; @job is in use until done was called */
void job_start(uv_loop_t *loop, struct job *job, void (*run)(struct job *job),
	       void (*done)(struct job *job));
