/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A person, or a script, at a process in a sandbox: what it writes comes out here, what is typed or
 * piped in here goes there, signals too.
 */
#pragma once

#include "cli/detach.h"
#include "cli/guest.h"
#include "cli/terminal.h"

struct session_spec {
	const struct guest *guest;
	const char *method;         /* "Start" or "Connect" */
	const json_t *request;      /* of it; NULL = it could not be made of UTF-8 */
	struct terminal_size size;  /* that the terminal in the request has; zero = none is known */
	const struct detach *keys;  /* to leave a terminal by */
	bool input;                 /* stdin is the process's */
	bool signals;               /* so are the signals that we get */
	bool own;                   /* it is ours: with us, its terminal is hung up */
	bool second_interrupt_ends; /* without a terminal: the first is the process's */
};

struct session_end {
	int code;       /* exit code; what went wrong was printed */
	json_int_t pid; /* 0 = it never started */
	bool detached;  /* by the keys; the process runs on */
};

/**
 * session_run() - be at a process until it ends, or the keys leave it
 *
 * If the process has a terminal and we have input for it, that must be one, too; it is raw
 * meanwhile.
 */
struct session_end session_run(const struct session_spec *spec);
