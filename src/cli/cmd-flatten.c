/* SPDX-License-Identifier: Apache-2.0 */
/* viv flatten: a template of what is on a sandbox's disk. */
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { 0 } };
	auto_json *body = NULL;
	auto_json *made = NULL;
	auto_free char *target = NULL;
	struct op op;

	if (getopt_long(argc, argv, "", options, NULL) != -1)
		return EXIT_USAGE;
	if (argc - optind != 2)
		return cli_usage(&verb_flatten,
				 "say which sandbox, and what the template is called");
	body = json_pack("{s:s}", "name", argv[optind + 1]);
	if (body == NULL)
		return cli_usage(&verb_flatten, "the name is not UTF-8");
	op_init(&op, 0, cli->signal_fd);
	target = cli_sandbox_target(cli, argv[optind], "/flatten", &op);
	if (cli_call(cli, "POST", target, body, &made, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	printf("%s  %s\n", json_text(made, "templateID"),
	       size_text(json_bytes(json_object_get(made, "vivarium"), "allocatedBytes")).s);
	return EXIT_OK;
}

const struct verb verb_flatten = {
	.name = "flatten",
	.usage = "SANDBOX NAME",
	.summary = "Stop a sandbox and make a template of its disk",
	.help = "",
	.run = run,
};
