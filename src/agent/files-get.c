/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. A job on the pool opens the file and reads its first piece, then the head is
 * sent; after that one job at a time reads the next piece, unless the client is behind. What the
 * file has lost since it was opened is missing in the reply, which is cut; what it has won is not
 * sent. Files of the kernel say that they are empty and are not: if there is something to read, the
 * length is left open.
 *
 * Bytes go out as they are, never compressed: it is one's own machine at the other end, and the
 * guest's processor time is what is scarce.
 */
#include "agent/files.h"

#include "agent/agent.h"
#include "agent/files-head.h"
#include "agent/files-request.h"
#include "agent/job.h"
#include "agent/path.h"
#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 65536, RANGE_SIZE = 80 };

struct get {
	struct job job;
	struct http_exchange *x; /* NULL = closed */
	struct agent *agent;
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
	bool started;   /* the head was sent */
	bool busy;      /* a job runs */
	char *piece;
	size_t n;
	struct files_error error;
};

static void get_free(struct get *g)
{
	fd_close(&g->fd);
	free(g->piece);
	free(g);
	files_transfer_end();
}

static int no_file(struct get *g, int code)
{
	return files_error_errno(&g->error, code == ENOTDIR ? ENOENT : code, "open", g->path);
}

static int open_file(struct get *g)
{
	struct stat st;

	if (stat(g->path, &st) < 0)
		return no_file(g, errno);
	if (files_check_regular(st.st_mode, g->path, &g->error) < 0)
		return -EPROTO;
	g->fd = open(g->path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	if (g->fd < 0 || fstat(g->fd, &st) < 0)
		return no_file(g, errno);
	if (files_check_regular(st.st_mode, g->path, &g->error) < 0)
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
		return files_error_set(&g->error, 416, "nothing of '%.400s' is in the range",
				       g->path);
	g->part = r > 0;
	return 0;
}

static int read_piece(struct get *g)
{
	size_t want = (size_t)MIN(g->total - g->done, (uint64_t)PIECE_BYTES);
	ssize_t n;

	g->piece = malloc(PIECE_BYTES);
	if (g->piece == NULL)
		return files_error_set(&g->error, 503, "out of memory");
	n = pread(g->fd, g->piece, want, (off_t)(g->first + g->done));
	if (n < 0)
		return files_error_errno(&g->error, errno, "read", g->path);
	g->n = (size_t)n;
	g->done += g->n;
	return 0;
}

static void run_first(struct job *job)
{
	struct get *g = container_of(job, struct get, job);

	if (open_file(g) == 0 && choose_range(g) == 0)
		ignore_err(read_piece(g)); /* all errors are looked at when the job is done */
}

static void run_next(struct job *job)
{
	struct get *g = container_of(job, struct get, job);

	ignore_err(read_piece(g)); /* the error is looked at when the job is done */
}

static void start_reply(struct get *g)
{
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
	g->started = true;
	/* A file that is as empty as it says has no open end. */
	if (g->total == UINT64_MAX && g->n == 0)
		g->total = 0;
	http_reply_start(g->x, g->part ? 206 : 200, fields,
			 g->total == UINT64_MAX ? -1 : (int64_t)g->total);
}

/* The last thing that a function of ours does: the exchange may close, and @g be gone. */
static void fail(struct get *g)
{
	char range[RANGE_SIZE];
	const struct http_field fields[] = { { "Content-Range", range }, { NULL, NULL } };

	if (g->started) {
		http_exchange_abort(g->x);
		return;
	}
	if (g->error.status != 416) {
		files_reply_error(g->x, &g->error);
		return;
	}
	snprintf(range, sizeof(range), "bytes */%llu", (unsigned long long)g->size);
	http_reply(g->x, 416, fields, NULL, NULL, 0);
}

static void next(struct get *g);

static void on_done(struct job *job)
{
	struct get *g = container_of(job, struct get, job);

	g->busy = false;
	if (g->x == NULL) {
		get_free(g);
		return;
	}
	if (g->error.status != 0) {
		fail(g);
		return;
	}
	if (!g->started)
		start_reply(g);
	http_reply_write(g->x, g->piece, g->n);
	free(take_ptr(&g->piece));
	/* A read of nothing before the end: the file became shorter, which the server tells by a
	 * reset. */
	if (g->n == 0 || g->done == g->total)
		http_reply_end(g->x);
	else
		next(g);
}

static void start(struct get *g, void (*run)(struct job *job))
{
	g->busy = true;
	job_start(&g->agent->loop, &g->job, run, on_done);
}

static void next(struct get *g)
{
	if (!http_reply_blocked(g->x))
		start(g, run_next);
}

static void on_drain(struct http_exchange *x, void *arg)
{
	struct get *g = arg;

	(void)x;
	if (!g->busy)
		next(g);
}

static void on_close(struct http_exchange *x, bool complete, void *arg)
{
	struct get *g = arg;

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

/* The head is the exchange's, which may be gone while a job runs: what is needed is copied. */
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

static int prepare(struct get *g, const struct http_head *head)
{
	struct files_request request = { 0 };
	int r = files_request_read(g->agent, head, "read", &request, &g->error);

	if (r == 0)
		r = files_request_resolve(g->agent, &request,
					  request.path != NULL ? request.path : "", g->path,
					  &g->error);
	files_request_done(&request);
	if (r == 0 && !files_identity_ok(http_head_get(head, "Accept-Encoding")))
		r = files_error_set(&g->error, 406,
				    "no acceptable encoding found, supported: [identity]");
	return r;
}

void files_serve_get(struct http_exchange *x, const struct route_params *params, void *arg)
{
	const struct http_head *head = http_exchange_head(x);
	struct files_error e = { 0 };
	struct get *g;

	(void)params;
	if (files_transfer_begin(&e) < 0) {
		files_reply_error(x, &e);
		return;
	}
	g = xcalloc(1, sizeof(*g));
	g->fd = -1;
	g->x = x;
	g->agent = arg;
	http_exchange_bind(x, &events, g);
	copy_range(g, head);
	if (prepare(g, head) < 0)
		fail(g);
	else
		start(g, run_first);
}
