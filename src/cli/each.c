/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/each.h"

#include "base/str.h"

#include <getopt.h>
#include <stdio.h>

/* Return: EXIT_OK; another code, after saying why. */
static int serve(struct cli *cli, const struct each *each, const json_t *detail, const char *name,
		 struct op *op)
{
	if (each->serve(cli, detail, each->arg, op) < 0)
		return cli_fail(cli, op, EXIT_FAILED);
	puts(name);
	return EXIT_OK;
}

static int serve_named(struct cli *cli, const struct each *each, const char *name)
{
	auto_json *detail = NULL;
	struct op op;

	op_init(&op, 0, cli->signal_fd);
	if (cli_find(cli, name, &detail, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	return serve(cli, each, detail, name, &op);
}

static int serve_listed(struct cli *cli, const struct each *each, const json_t *detail)
{
	const char *name = json_text(json_object_get(detail, "vivarium"), "name");
	struct op op;

	if (!each->suits(detail, each->arg))
		return EXIT_OK;
	op_init(&op, 0, cli->signal_fd);
	return serve(cli, each, detail, name[0] != '\0' ? name : json_text(detail, "sandboxID"),
		     &op);
}

static int serve_all(struct cli *cli, const struct each *each)
{
	auto_json *all = json_array();
	const json_t *detail;
	int code = EXIT_OK;
	struct op op;
	size_t i;

	op_init(&op, 0, cli->signal_fd);
	if (cli_list(cli, "all=true", all, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	json_array_foreach(all, i, detail)
	{
		int r = serve_listed(cli, each, detail);

		code = r != EXIT_OK ? r : code;
		if (code > EXIT_SIGNAL_BASE)
			break;
	}
	return code;
}

int each_run(struct cli *cli, const struct each *each, int argc, char **argv)
{
	static const struct option options[] = { { "all", no_argument, NULL, 'a' }, { 0 } };
	int code = EXIT_OK;
	bool all = false;
	int c;

	while ((c = getopt_long(argc, argv, "a", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		all = true;
	}
	if (all && optind < argc)
		return cli_usage(each->verb, "--all takes no '%s'", argv[optind]);
	if (all && each->serve_all != NULL)
		return each->serve_all(cli, each->arg);
	if (all)
		return serve_all(cli, each);
	if (optind == argc)
		return cli_usage(each->verb, "say which sandboxes, or --all");
	for (int i = optind; i < argc && code <= EXIT_SIGNAL_BASE; i++) {
		int r = serve_named(cli, each, argv[i]);

		code = r != EXIT_OK ? r : code;
	}
	return code;
}
