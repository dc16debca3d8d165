/* SPDX-License-Identifier: Apache-2.0 */
#include "http/splice.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
	IDLE_MAX = 2,
	REFUSALS = 256, /* a failure to make a pipe costs system calls, too */
};

struct splice_pipe {
	struct splice_pool *pool;
	struct splice_pipe *next; /* in pool->idle */
	int in;                   /* owned */
	int out;                  /* owned */
	size_t held;
};

static void pipe_free(struct splice_pipe *pipe)
{
	fd_close(&pipe->in);
	fd_close(&pipe->out);
	free(pipe);
}

void splice_pool_done(struct splice_pool *pool)
{
	assert(pool->n_used == 0);
	while (pool->idle != NULL) {
		struct splice_pipe *pipe = pool->idle;

		pool->idle = pipe->next;
		pipe_free(pipe);
	}
	*pool = (struct splice_pool){ 0 };
}

/* A smaller pipe than we ask for may be one of a page or two, which is slower than copying. */
static struct splice_pipe *pipe_new(struct splice_pool *pool)
{
	struct splice_pipe *pipe;
	int fds[2];

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return NULL;
	pipe = xcalloc(1, sizeof(*pipe));
	*pipe = (struct splice_pipe){ .pool = pool, .out = fds[0], .in = fds[1] };
	if (fcntl(pipe->in, F_SETPIPE_SZ, SPLICE_PIPE_BYTES) < SPLICE_PIPE_BYTES) {
		pipe_free(pipe);
		return NULL;
	}
	return pipe;
}

struct splice_pipe *splice_pipe_take(struct splice_pool *pool)
{
	struct splice_pipe *pipe = pool->idle;

	if (pool->n_used >= SPLICE_PIPES_MAX)
		return NULL;
	if (pipe != NULL) {
		pool->idle = pipe->next;
		pool->n_idle--;
	} else if (pool->refusals > 0) {
		pool->refusals--;
	} else {
		pipe = pipe_new(pool);
		pool->refusals = pipe == NULL ? REFUSALS : 0;
	}
	pool->n_used += pipe != NULL;
	return pipe;
}

void splice_pipe_give(struct splice_pipe *pipe)
{
	struct splice_pool *pool = pipe->pool;

	pool->n_used--;
	if (pipe->held > 0 || pool->n_idle >= IDLE_MAX) {
		pipe_free(pipe);
		return;
	}
	pipe->next = pool->idle;
	pool->idle = pipe;
	pool->n_idle++;
}

size_t splice_pipe_held(const struct splice_pipe *pipe)
{
	return pipe->held;
}

ssize_t splice_pipe_fill(struct splice_pipe *pipe, int fd, uint64_t max)
{
	size_t len = (size_t)MIN(max, (uint64_t)SPLICE_PIPE_BYTES);
	ssize_t n;

	assert(pipe->held == 0);
	do
		n = splice(fd, NULL, pipe->in, NULL, len, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	pipe->held = (size_t)n;
	return n;
}

/* No SPLICE_F_MORE: the last packet would wait for what may not come for long. */
int splice_pipe_drain(struct splice_pipe *pipe, int fd)
{
	while (pipe->held > 0) {
		ssize_t n = splice(pipe->out, NULL, fd, NULL, pipe->held,
				   SPLICE_F_MOVE | SPLICE_F_NONBLOCK);

		if (n > 0)
			pipe->held -= (size_t)n;
		else if (n == 0)
			return -EIO; /* it would not be empty */
		else if (errno == EAGAIN)
			return 0;
		else if (errno != EINTR)
			return -errno;
	}
	return 0;
}

ssize_t splice_pipe_read(struct splice_pipe *pipe, void *p, size_t max)
{
	ssize_t n;

	do
		n = read(pipe->out, p, MIN(max, pipe->held));
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	pipe->held -= (size_t)n;
	return n;
}
