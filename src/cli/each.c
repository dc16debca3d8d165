/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/each.h"

#include "base/str.h"

#include <getopt.h>
#include <stdio.h>

int each_name(struct cli *cli, char *const *names, each_serve_fn serve, const void *arg)
{
	int code = EXIT_OK;

	for (; *names != NULL && code <= EXIT_SIGNAL_BASE; names++) {
		struct op op;

		op_init(&op, 0, cli->signal_fd);
		if (serve(cli, *names, arg, &op) < 0)
			code = cli_fail(cli, &op, EXIT_FAILED);
	}
	return code;
}

static int serve(struct cli *cli, const struct each *each, const json_t *detail, const char *name,
		 struct op *op)
{
	int r = each->serve(cli, detail, each->arg, op);

	if (r >= 0)
		puts(name);
	return r;
}

static int serve_named(struct cli *cli, const char *name, const void *arg, struct op *op)
{
	auto_json *detail = NULL;
	int r = cli_find(cli, name, &detail, op);

	return r < 0 ? r : serve(cli, arg, detail, name, op);
}

static int serve_listed(struct cli *cli, const struct each *each, const json_t *detail,
			struct op *op)
{
	const char *name = json_text(json_object_get(detail, "vivarium"), "name");

	if (!each->suits(detail, each->arg))
		return 0;
	return serve(cli, each, detail, name[0] != '\0' ? name : json_text(detail, "sandboxID"),
		     op);
}

static int serve_all(struct cli *cli, const struct each *each)
{
	auto_json *all = json_array();
	int code = EXIT_OK;
	struct op op;

	op_init(&op, 0, cli->signal_fd);
	if (cli_list(cli, "all=true", all, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	for (size_t i = 0; i < json_array_size(all) && code <= EXIT_SIGNAL_BASE; i++) {
		op_init(&op, 0, cli->signal_fd);
		if (serve_listed(cli, each, json_array_get(all, i), &op) < 0)
			code = cli_fail(cli, &op, EXIT_FAILED);
	}
	return code;
}

int each_run(struct cli *cli, const struct each *each, int argc, char **argv)
{
	static const struct option options[] = { { "all", no_argument, NULL, 'a' }, { 0 } };
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
	return each_name(cli, argv + optind, serve_named, each);
}
