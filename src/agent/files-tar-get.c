/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GET /files/tar?path=P: a file or tree as a tar stream, made while it is sent.
 *
 *	name=N		what the first entry is called; absent: as the file is
 *	follow=top|all	what a symbolic link leads to: of P itself, or of all
 */
#include "agent/files-request.h"
#include "agent/files-tar.h"
#include "agent/files-transfer.h"
#include "agent/path.h"
#include "base/str.h"
#include "os/pack.h"

#include <errno.h>
#include <stdlib.h>

struct tar_get {
	struct files_transfer t;
	char path[PATH_MAX];
	char *name; /* owned */
	struct pack_spec spec;
	struct pack *pack; /* owned; NULL = not begun */
};

static void get_free(struct files_transfer *t)
{
	struct tar_get *g = container_of(t, struct tar_get, t);

	pack_free(g->pack);
	free(g->name);
	free(g);
}

/* Return: bytes; 0 = the end; negative errno with @e set. */
static ssize_t read_some(struct tar_get *g, struct err *e)
{
	struct files_transfer *t = &g->t;
	int r = g->pack == NULL ? pack_open(g->path, &g->spec, &g->pack, e) : 0;

	return r < 0 ? r : pack_read(g->pack, t->piece + t->n, FILES_PIECE_BYTES - t->n, e);
}

static void read_piece(struct files_transfer *t)
{
	struct tar_get *g = container_of(t, struct tar_get, t);
	struct err e = { 0 };
	ssize_t n;

	do {
		n = read_some(g, &e);
		t->n += (size_t)MAX(n, 0);
	} while (n > 0 && t->n < FILES_PIECE_BYTES);
	t->last = n <= 0;
	if (n < 0)
		ignore_err(files_error_set(&t->error, n == -ENOENT || n == -ENOTDIR ? 404 : 500,
					   "%s", e.msg)); /* it is looked at */
}

static const struct http_field fields[] = {
	{ "Content-Type", "application/x-tar" },
	{ "Cache-Control", "no-store" },
	{ NULL, NULL },
};

static void start(struct files_transfer *t)
{
	http_reply_start(t->x, 200, fields, -1);
}

static int read_follow(struct tar_get *g, const struct http_head *head)
{
	auto_free char *follow = NULL;

	if (files_query_get(head, "follow", &follow, &g->t.error) < 0)
		return -EPROTO;
	g->spec.follow_all = follow != NULL && streq(follow, "all");
	g->spec.follow_root = follow != NULL && streq(follow, "top");
	if (follow == NULL || g->spec.follow_all || g->spec.follow_root)
		return 0;
	return files_error_set(&g->t.error, 400, "query parameter 'follow' must be top or all");
}

static int prepare(struct files_transfer *t, const struct http_head *head)
{
	struct tar_get *g = container_of(t, struct tar_get, t);

	if (files_request_path(t->agent, head, "read", g->path, &t->error) < 0 ||
	    read_follow(g, head) < 0 || files_query_get(head, "name", &g->name, &t->error) < 0)
		return -EPROTO;
	g->spec.name = g->name != NULL && g->name[0] != '\0' ? g->name : path_name(g->path);
	if (streq(g->spec.name, "/"))
		g->spec.name = "root";
	return 0;
}

static const struct files_transfer_ops ops = {
	.prepare = prepare,
	.read = read_piece,
	.start = start,
	.free = get_free,
};

void files_serve_tar_get(struct http_exchange *x, const struct route_params *params, void *arg)
{
	struct tar_get *g = xcalloc(1, sizeof(*g));

	(void)params;
	files_transfer_serve(&g->t, x, arg, &ops);
}
