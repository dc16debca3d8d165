/* SPDX-License-Identifier: Apache-2.0 */
/* viv logs: the last of a sandbox's console. */
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { 0 } };
	auto_free char *target = NULL;
	auto_free char *text = NULL;
	struct op op;

	if (getopt_long(argc, argv, "", options, NULL) != -1)
		return EXIT_USAGE;
	if (argc - optind != 1)
		return cli_usage(&verb_logs, "say which sandbox");
	op_init(&op, 0, cli->signal_fd);
	target = cli_sandbox_target(cli, argv[optind], "/console", &op);
	if (cli_get_text(cli, target, &text, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	fputs(text, stdout);
	return EXIT_OK;
}

const struct verb verb_logs = {
	.name = "logs",
	.usage = "SANDBOX",
	.summary = "Show the last of a sandbox's console",
	.help = "",
	.run = run,
};
