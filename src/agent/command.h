/* SPDX-License-Identifier: Apache-2.0 */
/* What a client wants to be run, and how that becomes a process. */
#pragma once

#include "agent/process.h"

/* Borrowed from the request but for the user. */
struct command {
	struct user user;
	const char *cmd;
	const char *cwd;     /* NULL or "" = the sandbox's, else the user's home */
	const char *tag;     /* NULL = none */
	json_t *args;        /* array of strings, behind cmd; NULL = none */
	json_t *envs;        /* object of strings; NULL = none */
	struct pty_size pty; /* zero = none is wanted */
	bool with_stdin;
};

/** command_done() - free what it owns; idempotent on a zeroed one */
void command_done(struct command *c);

#define auto_command cleanup(command_done) struct command

/**
 * command_start() - start a process as its user, in the sandbox's environment
 * @timeout_ms:	after which its group is killed; 0 = never
 *
 * Return: the process; NULL with @e set.
 */
struct process *command_start(struct agent *a, const struct command *s, uint64_t timeout_ms,
			      struct connect_error *e);
