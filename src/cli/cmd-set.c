/* SPDX-License-Identifier: Apache-2.0 */
/* viv set: change what becomes of sandboxes that fail, or that nobody uses. */
#include "base/str.h"
#include "cli/each.h"
#include "cli/policy.h"

static int serve(struct cli *cli, const char *name, const void *change, struct op *op)
{
	auto_free char *target = cli_sandbox_target(cli, name, "", op);

	return cli_call(cli, "PATCH", target, change, NULL, op);
}

/* Return: 0; an exit code, after saying why. */
static int parse(int argc, char **argv, json_t *own)
{
	static const struct option options[] = { POLICY_OPTIONS, { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		int r = c == '?' ? EXIT_USAGE : policy_take_option(&verb_set, own, c);

		if (r < 0)
			return cli_usage(&verb_set, "'%s' is not UTF-8", optarg);
		if (r > 0)
			return r;
	}
	if (json_object_size(own) == 0)
		return cli_usage(&verb_set, "say what is to change");
	return argc > optind ? 0 : cli_usage(&verb_set, "say which sandbox");
}

static int run(struct cli *cli, int argc, char **argv)
{
	auto_json *change = json_pack("{s:{}}", "vivarium");
	int code = parse(argc, argv, json_object_get(change, "vivarium"));

	return code != 0 ? code : each_name(cli, argv + optind, serve, change);
}

const struct verb verb_set = {
	.name = "set",
	.usage = POLICY_USAGE " SANDBOX...",
	.summary = "Change what becomes of sandboxes that fail or are idle",
	.help = POLICY_HELP,
	.run = run,
};
