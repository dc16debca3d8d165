/* SPDX-License-Identifier: Apache-2.0 */
/* Processes in a sandbox, as verbs start, join and await them. What goes wrong is printed. */
#pragma once

#include "cli/guest.h"

/* What the options of a verb that starts a command say of it. */
struct exec_options {
	const char *workdir;     /* NULL = the default */
	json_t *env;             /* object of strings; owned; NULL = none */
	const char *tag;         /* NULL = none */
	const char *detach_keys; /* NULL = the default */
	bool tty;                /* it gets a terminal */
	bool detached;           /* nobody stays at it */
	bool interactive;        /* detached: its stdin stays open for who attaches */
};

struct exec_spec {
	const struct guest *guest;
	const struct exec_options *options;
	char *const *argv;          /* ended by NULL, at least one */
	bool second_interrupt_ends; /* Ctrl-C a second time, without a terminal */
};

/** exec_check() - whether the options fit each other and where we run, which needs no sandbox.
 * Return: 0; an exit code, after saying why */
must_check int exec_check(const struct verb *verb, const struct exec_options *options);

/**
 * exec_run() - run a command, streaming stdin, stdout and stderr and passing signals on; detached:
 * start it and print its pid
 * @out_left:	the command runs on: it was left by the keys, or detached; may be NULL
 *
 * Return: the command's exit code, 128 + signal, or one of viv's.
 */
int exec_run(const struct exec_spec *spec, bool *out_left);

struct attach_spec {
	const struct guest *guest;
	const char *process;     /* pid or tag */
	const char *detach_keys; /* NULL = the default */
	bool input;              /* pass stdin on */
	bool signals;            /* pass signals on */
};

/** exec_attach() - join a process: what it wrote that nobody got yet, then as exec_run() */
int exec_attach(const struct attach_spec *spec);

/** exec_wait() - wait until a process has ended. Return: its exit code, or one of viv's */
int exec_wait(const struct guest *g, const char *process);
