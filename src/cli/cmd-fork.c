/* SPDX-License-Identifier: Apache-2.0 */
/* viv fork: more sandboxes that go on from where one is now. */
#include "base/parse.h"
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

enum { CHILDREN_MAX = 100, TIMEOUT_MAX_S = 0x7fffffff };

struct wish {
	uint64_t count;
	uint64_t timeout_s; /* 0 = none */
};

/* Return: 0; an exit code, after saying why. */
static int parse(int argc, char **argv, struct wish *w)
{
	static const struct option options[] = {
		{ "count", required_argument, NULL, 'n' },
		{ "timeout", required_argument, NULL, 't' },
		{ 0 },
	};
	int c;

	while ((c = getopt_long(argc, argv, "n:", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		if (c == 'n' && parse_u64(optarg, 1, CHILDREN_MAX, &w->count) < 0)
			return cli_usage(&verb_fork, "'%s': a fork has 1 to %d children", optarg,
					 CHILDREN_MAX);
		if (c == 't' && parse_u64(optarg, 1, TIMEOUT_MAX_S, &w->timeout_s) < 0)
			return cli_usage(&verb_fork, "'%s' are no seconds", optarg);
	}
	return argc - optind == 1 ? 0 : cli_usage(&verb_fork, "say which sandbox");
}

/* Return: an exit code: all were made, or not. */
static int print_children(const json_t *children)
{
	int code = EXIT_OK;
	const json_t *child;
	size_t i;

	json_array_foreach(children, i, child)
	{
		const json_t *sandbox = json_object_get(child, "sandbox");
		auto_free char *why =
			plain_text(json_text(json_object_get(child, "error"), "message"));

		if (sandbox != NULL) {
			puts(json_text(sandbox, "sandboxID"));
			continue;
		}
		fprintf(stderr, "viv: %s\n", why);
		code = EXIT_FAILED;
	}
	return code;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct wish w = { .count = 1 };
	auto_json *body = NULL;
	auto_json *children = NULL;
	auto_free char *target = NULL;
	struct op op;
	int code = parse(argc, argv, &w);

	if (code != 0)
		return code;
	op_init(&op, 0, cli->signal_fd);
	target = cli_sandbox_target(cli, argv[optind], "/fork", &op);
	body = json_pack("{s:I, s:o, s:b}", "count", (json_int_t)w.count, "timeout",
			 w.timeout_s != 0 ? json_integer((json_int_t)w.timeout_s) : json_null(),
			 "paused", true);
	if (cli_call(cli, "POST", target, body, &children, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	return print_children(children);
}

const struct verb verb_fork = {
	.name = "fork",
	.usage = "[-n COUNT] [--timeout SECONDS] SANDBOX",
	.summary = "Make sandboxes that go on from where one is now",
	.help = "  -n, --count COUNT  that many; 1 if it is not said, 100 at most\n"
		"  --timeout SECONDS  they end after that time; never if it is not said\n",
	.run = run,
};
