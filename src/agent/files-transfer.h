/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A body that comes or goes piece by piece, with a job on the pool for each: what GET and POST of
 * files and trees have in common. One piece is in memory at a time, whoever is at the other end is
 * slowed to the pace of the disk or slows us to theirs, and the loop never waits.
 *
 * A transfer is the first member of what its kind needs besides. It is freed when its exchange is
 * closed and no job is at work.
 */
#pragma once

#include "agent/files-error.h"
#include "agent/job.h"
#include "http/server.h"

enum { FILES_PIECE_BYTES = 65536 }; /* of a download */

struct agent;
struct files_transfer;

/* What a kind of transfer does. Of feed and read there is one. All but those two and finish are
 * called on the loop's thread; errors are set in t->error, which is looked at afterwards. */
struct files_transfer_ops {
	/* Reads the request. The head is the exchange's, and may be gone while a job runs. Return:
	 * negative with t->error set: it is answered with that. */
	int (*prepare)(struct files_transfer *t, const struct http_head *head);

	/* Uploads: takes t->piece, t->n bytes of the body. On the pool. */
	void (*feed)(struct files_transfer *t);
	/* The body is complete. On the pool. */
	void (*finish)(struct files_transfer *t);
	/* Answers, after finish. */
	void (*reply)(struct files_transfer *t);

	/* Downloads: puts up to FILES_PIECE_BYTES into t->piece, sets t->n, and t->last if nothing
	 * comes behind them. On the pool. */
	void (*read)(struct files_transfer *t);
	/* Starts the reply; the first piece is there. */
	void (*start)(struct files_transfer *t);

	/* Answers with t->error; NULL = by files_reply_error(). */
	void (*refuse)(struct files_transfer *t);
	void (*free)(struct files_transfer *t);
};

struct files_transfer {
	struct job job;
	const struct files_transfer_ops *ops;
	struct http_exchange *x; /* NULL = closed */
	struct agent *agent;
	char *piece;
	size_t n;
	bool counted; /* among those that there are at once */
	bool busy;    /* a job runs */
	bool started; /* the head of the reply was sent */
	bool last;    /* of an upload: the body is complete */
	struct files_error error;
};

/**
 * files_transfer_serve() - serve a request
 * @t:	zeroed, of malloc(); ops->free() frees it
 *
 * Loop thread. Too many transfers at once, or what prepare() refuses, is answered at once.
 */
void files_transfer_serve(struct files_transfer *t, struct http_exchange *x, struct agent *a,
			  const struct files_transfer_ops *ops);
