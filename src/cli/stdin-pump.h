/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sends our standard input to a process, on a thread and a connection of its own, since the process
 * may not read it for ever while it writes. It is one StreamInput, opened by the first bytes: what
 * the process does not read is not read from us. Its end is told by CloseStdin, once everything
 * before it was written; a terminal has none.
 */
#pragma once

#include "cli/detach.h"
#include "cli/guest.h"

#include <pthread.h>

struct stdin_pump {
	/* Set by whoever starts it. */
	const struct guest *guest;
	json_int_t pid;
	bool pty; /* the process has a terminal */
	struct detach detach;

	/* Its own. */
	int cancel_fd; /* eventfd; owned */
	int detach_fd; /* eventfd; owned: readable once the keys to leave by were typed */
	bool running;
	pthread_t thread;
};

#define STDIN_PUMP_INIT                                                                            \
	{                                                                                          \
		.cancel_fd = -1, .detach_fd = -1                                                   \
	}

/** stdin_pump_start() - begin to send stdin. Return: 0; -errno with @e set */
must_check int stdin_pump_start(struct stdin_pump *p, struct err *e);

/** stdin_pump_stop() - end it, wherever it is, and wait for the thread; idempotent */
void stdin_pump_stop(struct stdin_pump *p);

#define auto_stdin_pump cleanup(stdin_pump_stop) struct stdin_pump
