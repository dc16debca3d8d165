/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST /files/tar?path=P: a tar stream as files.
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
#include "agent/files-transfer.h"
#include "agent/reply.h"
#include "base/str.h"
#include "os/unpack.h"

#include <errno.h>
#include <stdlib.h>

struct tar_post {
	struct files_transfer t;
	struct unpack *unpack; /* owned; NULL = refused */
	uint64_t skipped;
};

static void post_free(struct files_transfer *t)
{
	struct tar_post *p = container_of(t, struct tar_post, t);

	unpack_free(p->unpack);
	free(p);
}

static void set_error(struct files_transfer *t, const struct err *e)
{
	int status = e->kind == ERR_SYSTEM && (e->code == ENOENT || e->code == ENOTDIR) ? 404
		     : e->kind == ERR_SYSTEM && e->code == EACCES                       ? 403
											: 0;

	if (e->code == ENOSPC || e->code == EDQUOT)
		status = 507; /* as uploads have it */
	ignore_err(files_error_set(&t->error, status != 0 ? status : err_kind_http(e->kind), "%s",
				   e->msg)); /* it is looked at when the job is done */
}

static void feed(struct files_transfer *t)
{
	struct tar_post *p = container_of(t, struct tar_post, t);
	struct err e = { 0 };

	if (unpack_feed(p->unpack, t->piece, t->n, &e) < 0)
		set_error(t, &e);
}

static void finish(struct files_transfer *t)
{
	struct tar_post *p = container_of(t, struct tar_post, t);
	struct err e = { 0 };

	if (unpack_finish(p->unpack, &e) < 0)
		set_error(t, &e);
}

static void reply(struct files_transfer *t)
{
	struct tar_post *p = container_of(t, struct tar_post, t);

	reply_json(t->x, 200,
		   json_pack("{s:I, s:I}", "entries", (json_int_t)unpack_entries(p->unpack),
			     "skipped", (json_int_t)p->skipped));
}

static void on_skip(const char *path, void *arg)
{
	struct tar_post *p = arg;

	(void)path;
	p->skipped++;
}

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

static int read_wish(const struct agent *a, const struct http_head *head, struct wish *w,
		     struct files_error *e)
{
	if (files_request_read(a, head, "write", &w->request, e) < 0 ||
	    files_request_resolve(a, &w->request, w->request.path != NULL ? w->request.path : "",
				  w->path, e) < 0 ||
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

static int prepare(struct files_transfer *t, const struct http_head *head)
{
	struct tar_post *p = container_of(t, struct tar_post, t);
	cleanup(wish_done) struct wish w = { .name = NULL };

	if (read_wish(t->agent, head, &w, &t->error) < 0)
		return -EPROTO;
	p->unpack = unpack_new(&(struct unpack_spec){
		.dest = w.path,
		.name = w.name,
		.must_be_dir = w.dir != NULL && streq(w.dir, "1"),
		.keep_owner = w.owner != NULL,
		.set_owner = t->agent->is_init,
		.uid = w.request.user.uid,
		.gid = w.request.user.gid,
		.on_skip = on_skip,
		.arg = p,
	});
	return 0;
}

static const struct files_transfer_ops ops = {
	.prepare = prepare,
	.feed = feed,
	.finish = finish,
	.reply = reply,
	.free = post_free,
};

void files_serve_tar_post(struct http_exchange *x, const struct route_params *params, void *arg)
{
	struct tar_post *p = xcalloc(1, sizeof(*p));

	(void)params;
	files_transfer_serve(&p->t, x, arg, &ops);
}
