/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. What the file has lost since it was opened is missing in the reply, which is
 * cut; what it has won is not sent. Files of the kernel say that they are empty and are not: if
 * there is something to read, the length is left open.
 *
 * Bytes go out as they are, never compressed: it is one's own machine at the other end, and the
 * guest's processor time is what is scarce.
 */
#include "agent/files.h"

#include "agent/files-head.h"
#include "agent/files-request.h"
#include "agent/files-transfer.h"
#include "agent/path.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { RANGE_SIZE = 80 };

struct get {
	struct files_transfer t;
	char path[PATH_MAX];
	int fd;
	uint64_t size;
	char modified[FILES_DATE_SIZE];
	char range[RANGE_SIZE]; /* as asked for; "" = the whole file */
	char if_range[FILES_DATE_SIZE];
	uint64_t first; /* offset of what is sent */
	uint64_t total; /* how much that is; UINT64_MAX = until there is no more */
	uint64_t done;  /* bytes of it that were read */
	bool part;      /* 206 */
};

static void get_free(struct files_transfer *t)
{
	struct get *g = container_of(t, struct get, t);

	fd_close(&g->fd);
	free(g);
}

static int no_file(struct get *g, int code)
{
	return files_error_errno(&g->t.error, code == ENOTDIR ? ENOENT : code, "open", g->path);
}

static int open_file(struct get *g)
{
	struct stat st;

	if (stat(g->path, &st) < 0)
		return no_file(g, errno);
	if (files_check_regular(st.st_mode, g->path, &g->t.error) < 0)
		return -EPROTO;
	g->fd = open(g->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (g->fd < 0 || fstat(g->fd, &st) < 0)
		return no_file(g, errno);
	if (files_check_regular(st.st_mode, g->path, &g->t.error) < 0)
		return -EPROTO;
	g->size = (uint64_t)st.st_size;
	files_date(st.st_mtim.tv_sec, g->modified);
	return 0;
}

/* What of the file is wanted: a part only of the very version that the client knows. */
static int choose_range(struct get *g)
{
	const char *range = g->range;
	int r;

	if (g->if_range[0] != '\0' && !streq(g->if_range, g->modified))
		range = "";
	if (g->size == 0) {
		g->total = UINT64_MAX;
		return 0;
	}
	g->total = g->size;
	r = files_range_parse(range, g->size, &g->first, &g->total);
	if (r < 0)
		return files_error_set(&g->t.error, 416, "nothing of '%.400s' is in the range",
				       g->path);
	g->part = r > 0;
	return 0;
}

static void read_piece(struct files_transfer *t)
{
	struct get *g = container_of(t, struct get, t);
	ssize_t n;

	if (g->fd < 0 && (open_file(g) < 0 || choose_range(g) < 0))
		return; /* the error is looked at */
	n = pread(g->fd, t->piece, (size_t)MIN(g->total - g->done, (uint64_t)FILES_PIECE_BYTES),
		  (off_t)(g->first + g->done));
	if (n < 0) {
		ignore_err(files_error_errno(&t->error, errno, "read", g->path)); /* as well */
		return;
	}
	t->n = (size_t)n;
	g->done += t->n;
	/* A read of nothing before the end: the file became shorter, which the server tells by a
	 * reset. */
	t->last = n == 0 || g->done == g->total;
}

static void start(struct files_transfer *t)
{
	struct get *g = container_of(t, struct get, t);
	char disposition[FILES_DISPOSITION_SIZE];
	char range[RANGE_SIZE];
	const struct http_field fields[] = {
		{ "Content-Type", "application/octet-stream" },
		{ "Content-Disposition", disposition },
		{ "Accept-Ranges", "bytes" },
		{ "Vary", "Accept-Encoding" },
		{ "Last-Modified", g->modified },
		{ g->part ? "Content-Range" : NULL, range },
		{ NULL, NULL },
	};
	unsigned long long last = g->first + g->total - 1;

	files_disposition(path_name(g->path), disposition);
	snprintf(range, sizeof(range), "bytes %llu-%llu/%llu", (unsigned long long)g->first, last,
		 (unsigned long long)g->size);
	/* A file that is as empty as it says has no open end. */
	if (g->total == UINT64_MAX && t->n == 0)
		g->total = 0;
	http_reply_start(t->x, g->part ? 206 : 200, fields,
			 g->total == UINT64_MAX ? -1 : (int64_t)g->total);
}

static void refuse(struct files_transfer *t)
{
	const struct get *g = container_of(t, struct get, t);
	char range[RANGE_SIZE];
	const struct http_field fields[] = { { "Content-Range", range }, { NULL, NULL } };

	if (t->error.status != 416) {
		files_reply_error(t->x, &t->error);
		return;
	}
	snprintf(range, sizeof(range), "bytes */%llu", (unsigned long long)g->size);
	http_reply(t->x, 416, fields, NULL, NULL, 0);
}

static void copy_range(struct get *g, const struct http_head *head)
{
	const char *range = http_head_get(head, "Range");
	const char *if_range = http_head_get(head, "If-Range");

	/* What does not fit is no range and no date. */
	if (range != NULL)
		ignore_err(str_fit(g->range, sizeof(g->range), "%s", range));
	if (if_range != NULL && str_fit(g->if_range, sizeof(g->if_range), "%s", if_range) < 0)
		g->range[0] = '\0';
}

static int prepare(struct files_transfer *t, const struct http_head *head)
{
	struct get *g = container_of(t, struct get, t);

	copy_range(g, head);
	if (files_request_path(t->agent, head, "read", g->path, &t->error) < 0)
		return -EPROTO;
	if (files_identity_ok(http_head_get(head, "Accept-Encoding")))
		return 0;
	return files_error_set(&t->error, 406,
			       "no acceptable encoding found, supported: [identity]");
}

static const struct files_transfer_ops ops = {
	.prepare = prepare,
	.read = read_piece,
	.start = start,
	.refuse = refuse,
	.free = get_free,
};

void files_serve_get(struct http_exchange *x, const struct route_params *params, void *arg)
{
	struct get *g = xcalloc(1, sizeof(*g));

	(void)params;
	g->fd = -1;
	files_transfer_serve(&g->t, x, arg, &ops);
}
