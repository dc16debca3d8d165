/* SPDX-License-Identifier: Apache-2.0 */
/* What sandboxes use, for stats and top. */
#pragma once

#include "base/vec.h"
#include "cli/cli.h"

#include <stdio.h>

/* One sandbox. Sizes are bytes; what is not known is 0. */
struct usage_row {
	char id[24];
	char name[72];
	char state[16];
	bool sampled; /* it was seen since it runs; else only id, name, state and limits count */
	bool told;    /* the guest's part is known */
	double cpu;   /* percent of one CPU */
	uint64_t host_mem; /* that its VMM has for itself */
	uint64_t mem_limit;
	uint64_t mem_used; /* as the guest told last */
	uint64_t host_disk;
	uint64_t disk_limit;
	uint64_t disk_used; /* as the guest told last */
};
VEC_DEFINE(usage_rows, struct usage_row)

/**
 * usage_fetch() - ask vivd, and no guest
 * @names:	sandboxes by name, id or prefix; NULL = all that are not being created or deleted
 * @out:	rows are added; with @names in their order, else newest first
 *
 * Return: 0; -errno with op->err set.
 */
must_check int usage_fetch(struct cli *cli, char *const *names, size_t n_names,
			   struct usage_rows *out, struct op *op);

/** usage_print_head(), usage_print_row() - a line of the table, without its newline */
void usage_print_head(FILE *to);
void usage_print_row(FILE *to, const struct usage_row *row);

enum { USAGE_COLUMNS = 120 }; /* of a line at most; ids, names and states are cut to fit */

/** usage_wait() - wait for a key or a second. Return: 1 @key_fd has input; 0 a second passed;
 * -ECANCELED a signal came; -errno */
must_check int usage_wait(struct cli *cli, int key_fd);

/** usage_interrupted() - the exit code of a view that a signal ended: SIGINT is the usual end */
int usage_interrupted(struct cli *cli);
