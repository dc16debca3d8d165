/* SPDX-License-Identifier: Apache-2.0 */
/* Messages with descriptors over a unix socket (SOCK_SEQPACKET): SCM_RIGHTS. */
#pragma once

#include "base/macros.h"

#include <sys/types.h>

enum { FDPASS_MAX = 2 };

/**
 * fdpass_send() - send one message
 * @fds:	borrowed, at most FDPASS_MAX; the receiver gets copies
 *
 * Return: 0; -EAGAIN when the socket's buffer is full and it does not block; -errno.
 */
must_check int fdpass_send(int sock, const void *p, size_t n, const int *fds, size_t n_fds);

/**
 * fdpass_recv() - receive one message of exactly @n bytes
 * @fds:	array of FDPASS_MAX: what came with it, close-on-exec, caller owns; others are -1
 *
 * Return: 1; 0 the peer closed; -EAGAIN; -EBADMSG another size, or what came was cut off: nothing
 * is kept of it; -errno.
 */
must_check int fdpass_recv(int sock, void *p, size_t n, int fds[FDPASS_MAX]);
