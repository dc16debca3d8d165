/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/job.h"

static void on_work(uv_work_t *req)
{
	struct job *job = container_of(req, struct job, req);

	job->run(job);
}

static void on_done(uv_work_t *req, int status)
{
	struct job *job = container_of(req, struct job, req);

	(void)status; /* nobody cancels */
	job->done(job);
}

void job_start(uv_loop_t *loop, struct job *job, void (*run)(struct job *job),
	       void (*done)(struct job *job))
{
	int r;

	job->run = run;
	job->done = done;
	r = uv_queue_work(loop, &job->req, on_work, on_done);
	assert(r == 0); /* the callback is there */
}
