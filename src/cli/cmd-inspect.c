/* SPDX-License-Identifier: Apache-2.0 */
/* viv inspect: everything that is known of a sandbox. */
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

static void print_value(const char *key, const json_t *value)
{
	auto_free char *text = NULL;

	if (json_is_string(value)) {
		printf("%-20s %s\n", key, json_string_value(value));
		return;
	}
	text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(4));
	printf("%-20s %s\n", key, text != NULL ? text : "");
}

/* Ours first, since it is what `viv` users know; then what only E2B's clients have a word for. */
static void print_detail(const json_t *detail)
{
	static const char *const shared[] = { "templateID", "metadata", "startedAt" };
	json_t *own = json_object_get(detail, "vivarium");
	const char *key;
	json_t *value;

	print_value("id", json_object_get(detail, "sandboxID"));
	json_object_foreach(own, key, value) print_value(key, value);
	for (size_t i = 0; i < ARRAY_SIZE(shared); i++)
		print_value(shared[i], json_object_get(detail, shared[i]));
}

static int run(struct cli *cli, int argc, char **argv)
{
	auto_json *detail = NULL;
	bool json = false;
	struct op op;

	if (!cli_take_json(argc, argv, &json))
		return EXIT_USAGE;
	if (argc - optind != 1)
		return cli_usage(&verb_inspect, "say which sandbox");
	op_init(&op, 0, cli->signal_fd);
	if (cli_find(cli, argv[optind], &detail, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (json) {
		cli_print_json(detail);
	} else {
		print_detail(detail);
	}
	return EXIT_OK;
}

const struct verb verb_inspect = {
	.name = "inspect",
	.usage = "[--json] SANDBOX",
	.summary = "Show what is known of a sandbox",
	.help = "  --json  as JSON\n",
	.run = run,
};
