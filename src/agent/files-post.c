/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. Each piece of the body is copied, the body is paused, and a job on the pool
 * does with the piece all that there is to do, down to write(2). Then the next piece is asked for.
 * So one piece is in memory at a time, the client is slowed to the pace of the disk, and the loop
 * never waits. Whoever goes away meanwhile is forgotten when the job is done.
 */
#include "agent/files.h"

#include "agent/agent.h"
#include "agent/job.h"
#include "agent/reply.h"
#include "agent/upload.h"
#include "base/str.h"

#include <stdlib.h>

struct post {
	struct job job;
	struct http_exchange *x; /* NULL = closed */
	struct agent *agent;
	struct files_request request;
	struct metadata_items metadata;
	struct upload *upload;
	bool busy; /* a job runs */
	char *piece;
	size_t n;
	json_t *written; /* the reply, once the upload is finished */
	struct files_error error;
};

static void post_free(struct post *p)
{
	upload_free(p->upload);
	files_request_done(&p->request);
	metadata_done(&p->metadata);
	json_decref(p->written);
	free(p->piece);
	free(p);
	files_transfer_end();
}

/* The last thing that a function of ours does: the exchange may close, and @p be gone. */
static void fail(struct post *p)
{
	files_reply_error(p->x, &p->error);
}

static void run_feed(struct job *job)
{
	struct post *p = container_of(job, struct post, job);

	ignore_err(upload_feed(p->upload, p->piece, p->n, &p->error)); /* the error is looked at */
}

static void run_finish(struct job *job)
{
	struct post *p = container_of(job, struct post, job);

	ignore_err(upload_finish(p->upload, &p->written, &p->error)); /* the error is looked at */
}

static void on_done(struct job *job)
{
	struct post *p = container_of(job, struct post, job);

	p->busy = false;
	free(take_ptr(&p->piece));
	if (p->x == NULL)
		post_free(p);
	else if (p->error.status != 0)
		fail(p);
	else if (p->written != NULL)
		reply_json(p->x, 200, take_ptr(&p->written));
	else
		http_body_pause(p->x, false);
}

static void on_data(struct http_exchange *x, const char *data, size_t n, void *arg)
{
	struct post *p = arg;

	if (p->error.status != 0)
		return;
	p->piece = malloc(n);
	if (p->piece == NULL) {
		ignore_err(files_error_set(&p->error, 503, "out of memory"));
		fail(p);
		return;
	}
	memcpy(p->piece, data, n);
	p->n = n;
	p->busy = true;
	http_body_pause(x, true);
	job_start(&p->agent->loop, &p->job, run_feed, on_done);
}

static void on_end(struct http_exchange *x, void *arg)
{
	struct post *p = arg;

	(void)x;
	if (p->error.status != 0)
		return;
	p->busy = true;
	job_start(&p->agent->loop, &p->job, run_finish, on_done);
}

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	struct post *p = arg;

	(void)x;
	(void)complete;
	p->x = NULL;
	if (!p->busy)
		post_free(p);
}

static const struct http_exchange_events events = {
	.on_data = on_data,
	.on_end = on_end,
	.on_close = on_close,
};

static int prepare(struct post *p, const struct http_head *head)
{
	if (files_request_read(p->agent, head, "write", &p->request, &p->error) < 0 ||
	    metadata_parse(head, &p->metadata, &p->error) < 0)
		return -1;
	return upload_new(p->agent, head, &p->request, &p->metadata, &p->upload, &p->error);
}

void files_serve_post(struct http_exchange *x, const struct route_params *params, void *arg)
{
	struct files_error e = { 0 };
	struct post *p;

	(void)params;
	if (files_transfer_begin(&e) < 0) {
		files_reply_error(x, &e);
		return;
	}
	p = xcalloc(1, sizeof(*p));
	p->x = x;
	p->agent = arg;
	http_exchange_bind(x, &events, p);
	if (prepare(p, http_exchange_head(x)) < 0)
		fail(p);
	else
		http_body_stream(x);
}
