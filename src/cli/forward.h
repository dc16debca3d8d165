/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ports of here that lead to ports of a sandbox, as long as viv runs: each connection is one of
 * vivd's /sandboxes/{id}/ports/{port}, on a thread of its own that passes bytes and ends both ways.
 */
#pragma once

#include "cli/cli.h"

#include <pthread.h>

enum { FORWARDS_MAX = 64 };

#define FORWARD_BIND "127.0.0.1" /* where to listen unless told otherwise */

/* A port of here and where it leads. */
struct forward_port {
	char host[64]; /* address of here; "" = the default */
	uint16_t here; /* 0 = any; once it listens, the one that it is */
	uint16_t there;
	int fd; /* owned; -1 = does not listen */
};

struct forward {
	struct cli *cli;
	const char *id; /* of the sandbox; borrowed */
	struct forward_port ports[FORWARDS_MAX];
	size_t n;
	int stop_fd; /* eventfd: readable = end; owned; -1 */
	pthread_t thread;
	bool running;
};

#define FORWARD_INIT                                                                               \
	{                                                                                          \
		.stop_fd = -1                                                                      \
	}

/** forward_add() - [[ADDRESS:]HERE:]THERE; without HERE the same number. Return: 0; -EINVAL it is
 * no such text; -E2BIG too many */
must_check int forward_add(struct forward *f, const char *text);

/** forward_listen() - bind all ports. Return: 0; -errno with @e set, which names the port
 * @bind:	address where the text gave none */
must_check int forward_listen(struct forward *f, const char *bind, struct err *e);

/** forward_start() - accept, on a thread, until forward_stop(). Return: 0; -errno with @e set */
must_check int forward_start(struct forward *f, struct cli *cli, const char *id, struct err *e);

/** forward_stop() - accept no more, cut what is open, close; idempotent */
void forward_stop(struct forward *f);
