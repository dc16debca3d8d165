/* SPDX-License-Identifier: Apache-2.0 */
/* One command in a sandbox: its streams, signals and exit code. */
#pragma once

#include "cli/cli.h"

struct exec_spec {
	const char *id;
	const char *token;   /* "" = the sandbox asks for none */
	char *const *argv;   /* ended by NULL, at least one */
	const char *user;    /* NULL = the sandbox's default */
	const char *workdir; /* NULL = the default */
	const json_t *env;   /* object of strings; NULL = none */
};

/**
 * exec_run() - run a command, streaming stdin, stdout and stderr and passing signals on
 *
 * What goes wrong is printed. Return: the command's exit code, 128 + signal, or one of viv's.
 */
int exec_run(struct cli *cli, const struct exec_spec *spec);
