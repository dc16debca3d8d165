/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs that do the same with each of several things. */
#pragma once

#include "cli/cli.h"

/* Does it with the thing of a name, and prints what there is to say of it. Return: 0; -errno with
 * op->err set. */
typedef int (*each_serve_fn)(struct cli *cli, const char *name, const void *arg, struct op *op);

/**
 * each_name() - serve one name after the other
 * @names:	NULL is behind the last one
 *
 * Return: an exit code; one that failed does not keep the others from being served, a signal does.
 */
int each_name(struct cli *cli, char *const *names, each_serve_fn serve, const void *arg);

/* What a verb does with sandboxes. */
struct each {
	const struct verb *verb;
	/* Does it. @detail: of the sandbox. Return: 0; -errno with op->err set. */
	int (*serve)(struct cli *cli, const json_t *detail, const void *arg, struct op *op);
	/* Whether --all means this one. */
	bool (*suits)(const json_t *detail, const void *arg);
	/* Serves all at once, for --all: NULL = they are served one after the other. Return: an
	 * exit code, after saying why. */
	int (*serve_all)(struct cli *cli, const void *arg);
	const void *arg;
};

/**
 * each_run() - the whole of such a verb: reads "[--all | SANDBOX...]", serves one after the other,
 * prints the names of those with which it went well
 *
 * Return: as each_name().
 */
int each_run(struct cli *cli, const struct each *each, int argc, char **argv);
