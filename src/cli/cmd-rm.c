/* SPDX-License-Identifier: Apache-2.0 */
/* viv rm: remove sandboxes and their data. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/each.h"

static int remove_one(struct cli *cli, const json_t *detail, const void *arg, struct op *op)
{
	auto_free char *target = str_printf("/sandboxes/%s", json_text(detail, "sandboxID"));

	(void)arg;
	return cli_call(cli, "DELETE", target, NULL, NULL, op);
}

static bool any(const json_t *detail, const void *arg)
{
	(void)detail;
	(void)arg;
	return true;
}

static int run(struct cli *cli, int argc, char **argv)
{
	const struct each each = { .verb = &verb_rm, .serve = remove_one, .suits = any };

	return each_run(cli, &each, argc, argv);
}

const struct verb verb_rm = {
	.name = "rm",
	.usage = "--all | SANDBOX...",
	.summary = "Remove sandboxes with their disks",
	.help = "  -a, --all  all that there are\n",
	.run = run,
};
