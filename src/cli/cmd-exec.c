/* SPDX-License-Identifier: Apache-2.0 */
/* viv exec: run a command in a sandbox that exists. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/env.h"
#include "cli/exec.h"

#include <getopt.h>

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "env", required_argument, NULL, 'e' },
						 { "user", required_argument, NULL, 'u' },
						 { "workdir", required_argument, NULL, 'w' },
						 { 0 } };
	auto_json *env = json_object();
	auto_json *sandbox = NULL;
	struct exec_spec spec = { .env = env };
	struct op op;
	int c;

	while ((c = getopt_long(argc, argv, "+e:u:w:", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		if (c == 'e' && env_add(env, optarg) < 0)
			return cli_usage(&verb_exec,
					 "--env %s: say NAME=VALUE, or NAME to pass yours on",
					 optarg);
		if (c == 'u')
			spec.user = optarg;
		if (c == 'w')
			spec.workdir = optarg;
	}
	if (argc - optind < 1)
		return cli_usage(&verb_exec, "no sandbox");
	spec.argv = argv + optind + 1;
	if (spec.argv[0] != NULL && streq(spec.argv[0], "--"))
		spec.argv++;
	if (spec.argv[0] == NULL)
		return cli_usage(&verb_exec, "no command");
	op_init(&op, 0, cli->signal_fd);
	if (cli_find(cli, argv[optind], &sandbox, &op) < 0)
		return cli_fail(cli, &op, EXIT_VIV);
	spec.id = json_text(sandbox, "sandboxID");
	spec.token = json_text(sandbox, "envdAccessToken");
	return exec_run(cli, &spec);
}

const struct verb verb_exec = {
	.name = "exec",
	.usage = "[--env NAME[=VALUE]]... [--user USER] [--workdir DIR] SANDBOX [--] COMMAND...",
	.summary = "Run a command in a sandbox",
	.help = "  -e, --env N[=V]    environment; without =V yours is passed on\n"
		"  -u, --user USER    who it runs as (the sandbox's default user)\n"
		"  -w, --workdir DIR  where it runs (the sandbox's default)\n",
	.run = run,
};
