/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pipes through which bytes go from one socket to another without being copied: splice(2) moves
 * references to pages into the pipe and out of it. Loop thread only; nothing here blocks.
 */
#pragma once

#include "base/macros.h"

#include <sys/types.h>

enum {
	SPLICE_PIPE_BYTES =
		1 << 20,       /* of whole pages; what a pipe holds of short packets is less */
	SPLICE_PIPES_MAX = 32, /* of one pool, in use */
};

struct splice_pipe;

/* Pipes of one owner, who embeds it. A zeroed one is empty. */
struct splice_pool {
	struct splice_pipe *idle; /* empty pipes; owned */
	unsigned n_idle;
	unsigned n_used;
	unsigned refusals; /* left, since none could be made; then it is tried again */
};

/** splice_pool_done() - close the idle pipes; all others were given back before */
void splice_pool_done(struct splice_pool *pool);

/**
 * splice_pipe_take() - an empty pipe
 *
 * Return: the pipe, for splice_pipe_give(); NULL: SPLICE_PIPES_MAX are in use, or the kernel gives
 * no pipe of full size (descriptors, /proc/sys/fs/pipe-user-pages-soft). The bytes must be copied.
 */
struct splice_pipe *splice_pipe_take(struct splice_pool *pool);

/** splice_pipe_give() - give a pipe back; what it holds is lost */
void splice_pipe_give(struct splice_pipe *pipe);

/** splice_pipe_held() - bytes that went in and did not come out */
size_t splice_pipe_held(const struct splice_pipe *pipe);

/**
 * splice_pipe_fill() - move bytes from a non-blocking socket into an empty pipe
 * @max:	bytes, > 0
 *
 * Return: bytes moved; 0 end of file; -EAGAIN nothing is there yet; -errno.
 */
must_check ssize_t splice_pipe_fill(struct splice_pipe *pipe, int fd, uint64_t max);

/** splice_pipe_drain() - move what it holds into a non-blocking socket, as far as that takes it.
 * Return: 0; -errno, of which -EAGAIN is none */
must_check int splice_pipe_drain(struct splice_pipe *pipe, int fd);

/** splice_pipe_read() - copy the first of the held bytes out. Return: bytes; -errno */
must_check ssize_t splice_pipe_read(struct splice_pipe *pipe, void *p, size_t max);
