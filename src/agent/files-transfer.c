/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A piece of an upload is copied, the body is paused, a job does with the
 * piece all that there is to do, down to write(2), and the body goes on. A job of a download reads
 * a piece, which is sent, and the next one begins, unless the client is behind: then its on_drain
 * begins it. Whoever goes away meanwhile is forgotten when the job is done.
 *
 * Errors before the reply's head have a status; later ones cut it.
 */
#include "agent/files-transfer.h"

#include "agent/agent.h"
#include "agent/files-request.h"

#include <stdlib.h>
#include <string.h>

static void transfer_free(struct files_transfer *t)
{
	bool counted = t->counted;

	free(t->piece);
	t->ops->free(t);
	if (counted)
		files_transfer_end();
}

/* The last thing that a function of ours does: the exchange may close, and @t be gone. */
static void fail(struct files_transfer *t)
{
	if (t->started)
		http_exchange_abort(t->x);
	else if (t->ops->refuse != NULL)
		t->ops->refuse(t);
	else
		files_reply_error(t->x, &t->error);
}

static void out_of_memory(struct files_transfer *t)
{
	ignore_err(files_error_set(&t->error, 503, "out of memory")); /* it is looked at */
}

static void start_job(struct files_transfer *t, void (*run)(struct job *job),
		      void (*done)(struct job *job))
{
	t->busy = true;
	job_start(&t->agent->loop, &t->job, run, done);
}

/* A job is done. Return: whether there is somebody to go on for; @t may be gone if not. */
static bool job_ended(struct files_transfer *t)
{
	t->busy = false;
	if (t->x == NULL) {
		transfer_free(t);
		return false;
	}
	if (t->error.status != 0) {
		fail(t);
		return false;
	}
	return true;
}

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	struct files_transfer *t = arg;

	(void)x;
	(void)complete;
	t->x = NULL;
	if (!t->busy)
		transfer_free(t);
}

static void run_feed(struct job *job)
{
	struct files_transfer *t = container_of(job, struct files_transfer, job);

	t->ops->feed(t);
}

static void on_fed(struct job *job)
{
	struct files_transfer *t = container_of(job, struct files_transfer, job);

	free(take_ptr(&t->piece));
	if (job_ended(t))
		http_body_pause(t->x, false);
}

static void run_finish(struct job *job)
{
	struct files_transfer *t = container_of(job, struct files_transfer, job);

	t->ops->finish(t);
}

static void on_finished(struct job *job)
{
	struct files_transfer *t = container_of(job, struct files_transfer, job);

	if (job_ended(t))
		t->ops->reply(t);
}

static void on_data(struct http_exchange *x, const char *data, size_t n, void *arg)
{
	struct files_transfer *t = arg;

	if (t->error.status != 0)
		return;
	t->piece = malloc(n);
	if (t->piece == NULL) {
		out_of_memory(t);
		fail(t);
		return;
	}
	memcpy(t->piece, data, n);
	t->n = n;
	http_body_pause(x, true);
	start_job(t, run_feed, on_fed);
}

static void on_end(struct http_exchange *x, void *arg)
{
	struct files_transfer *t = arg;

	(void)x;
	if (t->error.status != 0)
		return;
	t->last = true;
	start_job(t, run_finish, on_finished);
}

static const struct http_exchange_events upload_events = {
	.on_data = on_data,
	.on_end = on_end,
	.on_close = on_close,
};

static void run_read(struct job *job)
{
	struct files_transfer *t = container_of(job, struct files_transfer, job);

	t->n = 0;
	t->piece = malloc(FILES_PIECE_BYTES);
	if (t->piece == NULL)
		out_of_memory(t);
	else
		t->ops->read(t);
}

static void next(struct files_transfer *t);

static void on_read(struct job *job)
{
	struct files_transfer *t = container_of(job, struct files_transfer, job);

	if (!job_ended(t))
		return;
	if (!t->started)
		t->ops->start(t);
	t->started = true;
	http_reply_write(t->x, t->piece, t->n);
	free(take_ptr(&t->piece));
	if (t->last)
		http_reply_end(t->x);
	else
		next(t);
}

static void next(struct files_transfer *t)
{
	if (!http_reply_blocked(t->x))
		start_job(t, run_read, on_read);
}

static void on_drain(struct http_exchange *x, void *arg)
{
	struct files_transfer *t = arg;

	(void)x;
	if (!t->busy && !t->last && t->error.status == 0)
		next(t);
}

static const struct http_exchange_events download_events = {
	.on_drain = on_drain,
	.on_close = on_close,
};

void files_transfer_serve(struct files_transfer *t, struct http_exchange *x, struct agent *a,
			  const struct files_transfer_ops *ops)
{
	bool upload = ops->feed != NULL;

	t->ops = ops;
	t->x = x;
	t->agent = a;
	http_exchange_bind(x, upload ? &upload_events : &download_events, t);
	t->counted = files_transfer_begin(&t->error) == 0;
	if (!t->counted || ops->prepare(t, http_exchange_head(x)) < 0)
		fail(t);
	else if (upload)
		http_body_stream(x);
	else
		next(t);
}
