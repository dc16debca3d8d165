/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /files/tar?path=P: a file or tree as a tar stream, made while it is sent: a job on the pool
 * reads a piece, which goes out; then the next, unless the client is behind. Errors before the
 * first piece have a status; later ones cut the reply.
 *
 *	name=N		what the first entry is called; absent: as the file is
 *	follow=top|all	what a symbolic link leads to: of P itself, or of all
 */
#include "agent/agent.h"
#include "agent/files-request.h"
#include "agent/files-tar.h"
#include "agent/job.h"
#include "agent/path.h"
#include "base/str.h"
#include "os/pack.h"

#include <errno.h>
#include <stdlib.h>

enum { PIECE_BYTES = 65536 };

struct tar_get {
	struct job job;
	struct http_exchange *x; /* NULL = closed */
	struct agent *agent;
	char path[PATH_MAX];
	char *name; /* owned */
	struct pack_spec spec;
	struct pack *pack; /* owned; NULL = not begun */
	char *piece;
	size_t n;
	bool busy; /* a job runs */
	bool started;
	struct files_error error;
};

static void get_free(struct tar_get *g)
{
	pack_free(g->pack);
	free(g->piece);
	free(g->name);
	free(g);
	files_transfer_end();
}

static int set_error(struct tar_get *g, int code, const struct err *e)
{
	return files_error_set(&g->error, code == ENOENT || code == ENOTDIR ? 404 : 500, "%s",
			       e->msg);
}

static void run(struct job *job)
{
	struct tar_get *g = container_of(job, struct tar_get, job);
	struct err e = { 0 };
	ssize_t n;
	int r = 0;

	if (g->pack == NULL)
		r = pack_open(g->path, &g->spec, &g->pack, &e);
	g->n = 0;
	while (r == 0 && g->n < PIECE_BYTES) {
		n = pack_read(g->pack, g->piece + g->n, PIECE_BYTES - g->n, &e);
		if (n <= 0) {
			r = (int)n;
			break;
		}
		g->n += (size_t)n;
	}
	if (r < 0)
		ignore_err(set_error(g, -r, &e)); /* it is looked at when the job is done */
}

static const struct http_field fields[] = {
	{ "Content-Type", "application/x-tar" },
	{ "Cache-Control", "no-store" },
	{ NULL, NULL },
};

static void next(struct tar_get *g);

/* The last thing that it does may free @g. */
static void on_done(struct job *job)
{
	struct tar_get *g = container_of(job, struct tar_get, job);

	g->busy = false;
	if (g->x == NULL) {
		get_free(g);
		return;
	}
	if (g->error.status != 0 && g->started) {
		http_exchange_abort(g->x);
		return;
	}
	if (g->error.status != 0) {
		files_reply_error(g->x, &g->error);
		return;
	}
	if (!g->started)
		http_reply_start(g->x, 200, fields, -1);
	g->started = true;
	http_reply_write(g->x, g->piece, g->n);
	if (g->n < PIECE_BYTES)
		http_reply_end(g->x);
	else
		next(g);
}

static void next(struct tar_get *g)
{
	if (http_reply_blocked(g->x))
		return;
	g->busy = true;
	job_start(&g->agent->loop, &g->job, run, on_done);
}

static void on_drain(struct http_exchange *x, void *arg)
{
	struct tar_get *g = arg;

	(void)x;
	if (!g->busy && g->n == PIECE_BYTES)
		next(g);
}

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	struct tar_get *g = arg;

	(void)x;
	(void)complete;
	g->x = NULL;
	if (!g->busy)
		get_free(g);
}

static const struct http_exchange_events events = {
	.on_drain = on_drain,
	.on_close = on_close,
};

static int read_follow(struct tar_get *g, const struct http_head *head)
{
	auto_free char *follow = NULL;

	if (files_query_get(head, "follow", &follow, &g->error) < 0)
		return -EPROTO;
	g->spec.follow_all = follow != NULL && streq(follow, "all");
	g->spec.follow_root = follow != NULL && streq(follow, "top");
	if (follow == NULL || g->spec.follow_all || g->spec.follow_root)
		return 0;
	return files_error_set(&g->error, 400, "query parameter 'follow' must be top or all");
}

static int prepare(struct tar_get *g, const struct http_head *head)
{
	struct files_request request = { 0 };
	int r = files_request_read(g->agent, head, "read", &request, &g->error);

	if (r == 0)
		r = files_request_resolve(g->agent, &request,
					  request.path != NULL ? request.path : "", g->path,
					  &g->error);
	files_request_done(&request);
	if (r == 0)
		r = read_follow(g, head);
	if (r == 0)
		r = files_query_get(head, "name", &g->name, &g->error);
	if (r < 0)
		return r;
	g->spec.name = g->name != NULL && g->name[0] != '\0' ? g->name : path_name(g->path);
	if (streq(g->spec.name, "/"))
		g->spec.name = "root";
	g->piece = malloc(PIECE_BYTES);
	return g->piece != NULL ? 0 : files_error_set(&g->error, 503, "out of memory");
}

void files_serve_tar_get(struct http_exchange *x, const struct route_params *params, void *arg)
{
	struct files_error e = { 0 };
	struct tar_get *g;

	(void)params;
	if (files_transfer_begin(&e) < 0) {
		files_reply_error(x, &e);
		return;
	}
	g = xcalloc(1, sizeof(*g));
	g->x = x;
	g->agent = arg;
	http_exchange_bind(x, &events, g);
	if (prepare(g, http_exchange_head(x)) < 0)
		files_reply_error(x, &g->error);
	else
		next(g);
}
