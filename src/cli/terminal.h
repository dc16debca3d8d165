/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Our own terminal, while it stands for one in a sandbox: every key goes there, raw, and comes back
 * as that terminal makes of it. It is made as it was however we end, but by SIGKILL.
 */
#pragma once

#include "base/err.h"

#include <termios.h>

struct terminal_size {
	unsigned short cols;
	unsigned short rows;
};

struct terminal {
	struct termios saved;
	bool raw;      /* it is ours, and `saved` is how it was */
	int signal_fd; /* SIGWINCH and SIGCONT; owned; -1 = not open */
};

#define TERMINAL_INIT                                                                              \
	{                                                                                          \
		.signal_fd = -1                                                                    \
	}

/** terminal_is_there() - whether standard input is a terminal */
bool terminal_is_there(void);

/** terminal_size() - of standard input, else output; 80 by 24 if neither says */
struct terminal_size terminal_size(void);

/**
 * terminal_take() - have standard input raw from now on
 * @t:		TERMINAL_INIT
 *
 * Before any thread is made: it blocks the signals of its descriptor. Return: 0; -errno, @e set.
 */
must_check int terminal_take(struct terminal *t, struct err *e);

/**
 * terminal_read_signals() - what signal_fd has
 *
 * A terminal that others had while we were stopped is made raw anew. Return: whether its size may
 * have changed.
 */
bool terminal_read_signals(struct terminal *t);

/** terminal_give_back() - make it as it was, unless it is somebody else's by now; idempotent */
void terminal_give_back(struct terminal *t);

#define auto_terminal cleanup(terminal_give_back) struct terminal
