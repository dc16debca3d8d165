/* SPDX-License-Identifier: Apache-2.0 */
/* viv rm: remove sandboxes and their data. */
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

static int remove_one(struct cli *cli, const char *name, struct op *op)
{
	auto_json *detail = NULL;
	auto_free char *target = NULL;
	int r = cli_find(cli, name, &detail, op);

	if (r < 0)
		return r;
	target = str_printf("/sandboxes/%s", json_text(detail, "sandboxID"));
	return cli_call(cli, "DELETE", target, NULL, NULL, op);
}

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { 0 } };
	int code = EXIT_OK;

	if (getopt_long(argc, argv, "", options, NULL) != -1)
		return EXIT_USAGE;
	if (optind == argc)
		return cli_usage(&verb_rm, "say which sandboxes");
	for (int i = optind; i < argc; i++) {
		struct op op;

		op_init(&op, 0, cli->signal_fd);
		if (remove_one(cli, argv[i], &op) == 0)
			puts(argv[i]);
		else
			code = cli_fail(cli, &op, EXIT_FAILED);
		if (code > EXIT_SIGNAL_BASE)
			break;
	}
	return code;
}

const struct verb verb_rm = {
	.name = "rm",
	.usage = "SANDBOX...",
	.summary = "Remove sandboxes with their disks",
	.help = "",
	.run = run,
};
