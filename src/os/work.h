/* SPDX-License-Identifier: Apache-2.0 */
/* Blocking work off the loop: libuv's worker pool, results come back to the loop thread. */
#pragma once

#include "base/macros.h"

#include <uv.h>

/** work_setup() - set the number of worker threads; before the loop's first use of the pool */
void work_setup(unsigned threads);

/**
 * work_submit() - run @work on a worker, then @done on the loop thread
 * @arg:	given to both; owned by whoever runs
 */
void work_submit(uv_loop_t *loop, void (*work)(void *arg), void (*done)(void *arg), void *arg);
