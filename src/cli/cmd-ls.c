/* SPDX-License-Identifier: Apache-2.0 */
/* viv ls: the sandboxes as a table. */
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

/* Also what is wrong with one that runs. */
static const char *state_of(const json_t *own)
{
	const char *condition = json_text(own, "condition");

	if (str_starts(condition, "disk-"))
		return "frozen";
	return streq(condition, "silent") ? "silent" : json_text(own, "state");
}

static void print_row(const json_t *sandbox)
{
	const json_t *own = json_object_get(sandbox, "vivarium");
	const char *name = json_text(own, "name");
	const char *state = state_of(own);

	printf("%-20s  %-16s  %-8s  %-12s  %4lld  %6s  %6s of %s\n",
	       json_text(sandbox, "sandboxID"), name[0] != '\0' ? name : "-", state,
	       json_text(sandbox, "templateID"), (long long)json_number(own, "cpus"),
	       size_text(json_mib(own, "memoryMB")).s,
	       size_text(json_bytes(own, "diskAllocatedBytes")).s,
	       size_text(json_mib(own, "diskSizeMB")).s);
}

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
						 { "quiet", no_argument, NULL, 'q' },
						 { 0 } };
	auto_json *all = json_array();
	bool json = false;
	bool quiet = false;
	struct op op;
	const json_t *sandbox;
	size_t i;
	int c;

	while ((c = getopt_long(argc, argv, "q", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		json = json || c == 'j';
		quiet = quiet || c == 'q';
	}
	if (optind < argc)
		return cli_usage(&verb_ls, "it takes no '%s'", argv[optind]);
	op_init(&op, 0, cli->signal_fd);
	if (cli_list(cli, "all=true", all, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (json)
		return cli_print_json(all);
	if (!quiet)
		printf("%-20s  %-16s  %-8s  %-12s  %4s  %6s  %s\n", "ID", "NAME", "STATE",
		       "TEMPLATE", "CPUS", "MEMORY", "DISK");
	json_array_foreach(all, i, sandbox)
	{
		if (quiet)
			puts(json_text(sandbox, "sandboxID"));
		else
			print_row(sandbox);
	}
	return EXIT_OK;
}

const struct verb verb_ls = {
	.name = "ls",
	.usage = "[--json | --quiet]",
	.summary = "List the sandboxes, newest first",
	.help = "  --json       as JSON\n"
		"  -q, --quiet  only the ids\n",
	.run = run,
};
