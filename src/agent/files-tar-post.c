/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /files/tar?path=P: a tar stream as files. As with uploads, one piece of the body at a time
 * is with a job on the pool, and the client waits for it (files-post.c).
 *
 *	name=N		the stream is one file or tree, which goes to P by docker's rules: into a
 *			directory P as N ("": its contents), else it becomes P. Absent: any entries,
 *			into the directory P
 *	dir=1		P is meant to be a directory
 *	owner=keep	as the stream has it; absent: the request's user
 */
#include "agent/agent.h"
#include "agent/files-request.h"
#include "agent/files-tar.h"
#include "agent/job.h"
#include "agent/reply.h"
#include "base/str.h"
#include "os/unpack.h"

#include <errno.h>
#include <stdlib.h>

struct tar_post {
	struct job job;
	struct http_exchange *x; /* NULL = closed */
	struct agent *agent;
	struct unpack *unpack; /* owned; NULL = refused */
	uint64_t skipped;
	char *piece;
	size_t n;
	bool busy;  /* a job runs */
	bool ended; /* the body is complete, and so will be the last job */
	struct files_error error;
};

static void post_free(struct tar_post *p)
{
	unpack_free(p->unpack);
	free(p->piece);
	free(p);
	files_transfer_end();
}

static void set_error(struct tar_post *p, const struct err *e)
{
	int status = e->kind == ERR_SYSTEM && (e->code == ENOENT || e->code == ENOTDIR) ? 404
		     : e->kind == ERR_SYSTEM && e->code == EACCES                       ? 403
											: 0;

	if (e->code == ENOSPC || e->code == EDQUOT)
		status = 507; /* as uploads have it */
	ignore_err(files_error_set(&p->error, status != 0 ? status : err_kind_http(e->kind), "%s",
				   e->msg)); /* it is looked at when the job is done */
}

static void run_feed(struct job *job)
{
	struct tar_post *p = container_of(job, struct tar_post, job);
	struct err e = { 0 };

	if (unpack_feed(p->unpack, p->piece, p->n, &e) < 0)
		set_error(p, &e);
}

static void run_finish(struct job *job)
{
	struct tar_post *p = container_of(job, struct tar_post, job);
	struct err e = { 0 };

	if (unpack_finish(p->unpack, &e) < 0)
		set_error(p, &e);
}

static void on_skip(const char *path, void *arg)
{
	struct tar_post *p = arg;

	(void)path;
	p->skipped++;
}

static void on_done(struct job *job)
{
	struct tar_post *p = container_of(job, struct tar_post, job);

	p->busy = false;
	free(take_ptr(&p->piece));
	if (p->x == NULL)
		post_free(p);
	else if (p->error.status != 0)
		files_reply_error(p->x, &p->error);
	else if (p->ended)
		reply_json(p->x, 200,
			   json_pack("{s:I, s:I}", "entries", (json_int_t)unpack_entries(p->unpack),
				     "skipped", (json_int_t)p->skipped));
	else
		http_body_pause(p->x, false);
}

static void start(struct tar_post *p, void (*run)(struct job *job))
{
	p->busy = true;
	job_start(&p->agent->loop, &p->job, run, on_done);
}

static void on_data(struct http_exchange *x, const char *data, size_t n, void *arg)
{
	struct tar_post *p = arg;

	if (p->error.status != 0)
		return;
	p->piece = malloc(n);
	if (p->piece == NULL) {
		ignore_err(files_error_set(&p->error, 503, "out of memory"));
		files_reply_error(x, &p->error);
		return;
	}
	memcpy(p->piece, data, n);
	p->n = n;
	http_body_pause(x, true);
	start(p, run_feed);
}

static void on_end(struct http_exchange *x, void *arg)
{
	struct tar_post *p = arg;

	(void)x;
	if (p->error.status != 0)
		return;
	p->ended = true;
	start(p, run_finish);
}

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	struct tar_post *p = arg;

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

/* What the query says of where things go. Strings are new memory. */
struct wish {
	struct files_request request;
	char *name;
	char *dir;
	char *owner;
	char path[PATH_MAX];
};

static void wish_done(struct wish *w)
{
	files_request_done(&w->request);
	free(w->name);
	free(w->dir);
	free(w->owner);
}

static int read_wish(const struct tar_post *p, const struct http_head *head, struct wish *w,
		     struct files_error *e)
{
	if (files_request_read(p->agent, head, "write", &w->request, e) < 0 ||
	    files_request_resolve(p->agent, &w->request,
				  w->request.path != NULL ? w->request.path : "", w->path, e) < 0 ||
	    files_query_get(head, "name", &w->name, e) < 0 ||
	    files_query_get(head, "dir", &w->dir, e) < 0 ||
	    files_query_get(head, "owner", &w->owner, e) < 0)
		return -EPROTO;
	if (w->name != NULL &&
	    (strchr(w->name, '/') != NULL || streq(w->name, "..") || streq(w->name, ".")))
		return files_error_set(e, 400, "query parameter 'name' must be a name");
	if (w->owner != NULL && !streq(w->owner, "keep"))
		return files_error_set(e, 400, "query parameter 'owner' must be keep");
	return 0;
}

static int prepare(struct tar_post *p, const struct http_head *head)
{
	cleanup(wish_done) struct wish w = { .name = NULL };

	if (read_wish(p, head, &w, &p->error) < 0)
		return -EPROTO;
	p->unpack = unpack_new(&(struct unpack_spec){
		.dest = w.path,
		.name = w.name,
		.must_be_dir = w.dir != NULL && streq(w.dir, "1"),
		.keep_owner = w.owner != NULL,
		.set_owner = p->agent->is_init,
		.uid = w.request.user.uid,
		.gid = w.request.user.gid,
		.on_skip = on_skip,
		.arg = p,
	});
	return 0;
}

void files_serve_tar_post(struct http_exchange *x, const struct route_params *params, void *arg)
{
	struct files_error e = { 0 };
	struct tar_post *p;

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
		files_reply_error(x, &p->error);
	else
		http_body_stream(x);
}
