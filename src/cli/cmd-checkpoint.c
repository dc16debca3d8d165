/* SPDX-License-Identifier: Apache-2.0 */
/* viv checkpoint, checkpoints, rollback: instants of a sandbox that it can go back to. */
#include "base/parse.h"
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>

enum { OPTION_JSON = 256, OPTION_REMOVE };

static int run_checkpoint(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { 0 } };
	auto_free char *target = NULL;
	auto_json *made = NULL;
	struct op op;

	if (getopt_long(argc, argv, "", options, NULL) != -1)
		return EXIT_USAGE;
	if (argc - optind != 1)
		return cli_usage(&verb_checkpoint, "say which sandbox");
	op_init(&op, 0, cli->signal_fd);
	target = cli_sandbox_target(cli, argv[optind], "/checkpoints", &op);
	if (cli_call(cli, "POST", target, NULL, &made, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	printf("%" JSON_INTEGER_FORMAT "\n", json_number(made, "generation"));
	return EXIT_OK;
}

const struct verb verb_checkpoint = {
	.name = "checkpoint",
	.usage = "SANDBOX",
	.summary = "Save a running sandbox, which goes on, to go back to",
	.help = "",
	.run = run_checkpoint,
};

static void print_row(const json_t *c, json_int_t current)
{
	json_int_t generation = json_number(c, "generation");
	json_int_t parent = json_number(c, "parent");
	auto_free char *from =
		parent != 0 ? str_printf("%" JSON_INTEGER_FORMAT, parent) : str_dup("-");
	auto_free char *fault = plain_text(json_text(c, "error"));

	if (fault[0] != '\0') {
		printf("%10" JSON_INTEGER_FORMAT "  damaged: %s\n", generation, fault);
		return;
	}
	printf("%10" JSON_INTEGER_FORMAT "  %6s  %-20.19s  %-4s  %6s  %7s%s\n", generation, from,
	       json_text(c, "createdAt"),
	       json_is_true(json_object_get(c, "kept")) ? "hand" : "auto",
	       size_text(json_bytes(c, "memoryBytes")).s,
	       size_text(json_bytes(c, "allocatedBytes")).s, generation == current ? "  *" : "");
}

static void print_checkpoints(const json_t *all, json_int_t current)
{
	const json_t *c;
	size_t i;

	printf("%10s  %6s  %-20s  %-4s  %6s  %7s\n", "GENERATION", "PARENT", "CREATED", "BY",
	       "MEMORY", "ON DISK");
	json_array_foreach(all, i, c)
	{
		print_row(c, current);
	}
}

static int list(struct cli *cli, const char *name, bool json)
{
	auto_json *detail = NULL;
	auto_json *all = NULL;
	auto_free char *target = NULL;
	struct op op;

	op_init(&op, 0, cli->signal_fd);
	if (cli_find(cli, name, &detail, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	target = str_printf("/sandboxes/%s/checkpoints", json_text(detail, "sandboxID"));
	if (cli_call(cli, "GET", target, NULL, &all, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (!json) {
		print_checkpoints(all,
				  json_number(json_object_get(detail, "vivarium"), "generation"));
		return EXIT_OK;
	}
	return cli_print_json(all);
}

static int remove_one(struct cli *cli, const char *name, uint64_t generation)
{
	auto_free char *rest = str_printf("/checkpoints/%" PRIu64, generation);
	auto_free char *target = NULL;
	struct op op;

	op_init(&op, 0, cli->signal_fd);
	target = cli_sandbox_target(cli, name, rest, &op);
	if (cli_call(cli, "DELETE", target, NULL, NULL, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	return EXIT_OK;
}

static int run_checkpoints(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, OPTION_JSON },
		{ "remove", required_argument, NULL, OPTION_REMOVE },
		{ 0 },
	};
	uint64_t generation = 0;
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		json |= c == OPTION_JSON;
		if (c == OPTION_REMOVE && parse_u64(optarg, 1, INT64_MAX, &generation) < 0)
			return cli_usage(&verb_checkpoints, "'%s' is no generation", optarg);
	}
	if (argc - optind != 1)
		return cli_usage(&verb_checkpoints, "say which sandbox");
	return generation != 0 ? remove_one(cli, argv[optind], generation)
			       : list(cli, argv[optind], json);
}

const struct verb verb_checkpoints = {
	.name = "checkpoints",
	.usage = "[--json | --remove GENERATION] SANDBOX",
	.summary = "List the checkpoints of a sandbox, or remove one",
	.help = "  --json             as JSON\n"
		"  --remove GENERATION\n"
		"                     remove this one\n",
	.run = run_checkpoints,
};

static int run_rollback(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { 0 } };
	auto_json *body = json_object();
	auto_free char *target = NULL;
	uint64_t generation = 0;
	struct op op;

	if (getopt_long(argc, argv, "", options, NULL) != -1)
		return EXIT_USAGE;
	if (argc - optind < 1 || argc - optind > 2)
		return cli_usage(&verb_rollback, "say which sandbox, and maybe which checkpoint");
	if (argc - optind == 2 && parse_u64(argv[optind + 1], 1, INT32_MAX, &generation) < 0)
		return cli_usage(&verb_rollback, "'%s' is no generation", argv[optind + 1]);
	if (generation != 0)
		ignore_err(json_object_set_new(body, "generation",
					       json_integer((json_int_t)generation)));
	op_init(&op, 0, cli->signal_fd);
	target = cli_sandbox_target(cli, argv[optind], "/rollback", &op);
	if (cli_call(cli, "POST", target, body, NULL, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	return EXIT_OK;
}

const struct verb verb_rollback = {
	.name = "rollback",
	.usage = "SANDBOX [GENERATION]",
	.summary = "Take a sandbox back to a checkpoint, memory and all",
	.help = "",
	.run = run_rollback,
};
