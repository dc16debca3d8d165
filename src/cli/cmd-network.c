/* SPDX-License-Identifier: Apache-2.0 */
/* viv network: show or change where a sandbox may go. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/egress.h"

#include <stdio.h>

enum { OPTION_CLEAR = EGRESS_NO_INTERNET + 1, OPTION_JSON };

struct wish {
	json_t *change; /* owned; the request */
	bool set;       /* it is to be sent */
	bool clear;
	bool json;
};

static void wish_done(struct wish *w)
{
	json_decref(w->change);
}

/* Return: 0; an exit code, after saying why. */
static int parse(int argc, char **argv, struct wish *w)
{
	static const struct option options[] = {
		EGRESS_OPTIONS,
		{ "clear", no_argument, NULL, OPTION_CLEAR },
		{ "json", no_argument, NULL, OPTION_JSON },
		{ 0 },
	};
	int c;

	w->change = json_object();
	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		w->clear |= c == OPTION_CLEAR;
		w->json |= c == OPTION_JSON;
		if (!egress_is_option(c))
			continue;
		if (egress_take_option(w->change, w->change, c) < 0)
			return cli_usage(&verb_network, "'%s' is not UTF-8", optarg);
		w->set = true;
	}
	if (argc - optind != 1)
		return cli_usage(&verb_network, "say which sandbox");
	if (w->clear && w->set)
		return cli_usage(&verb_network, "--clear is the end of all others: say it alone");
	w->set |= w->clear;
	if (w->json && w->set)
		return cli_usage(&verb_network, "--json shows, and the others change");
	return 0;
}

static void print_list(const char *option, const json_t *list)
{
	size_t i;
	json_t *entry;

	printf("%-12s", option);
	if (json_array_size(list) == 0)
		fputs(" -", stdout);
	json_array_foreach(list, i, entry) printf(" %s", json_string_value(entry));
	putchar('\n');
}

static void print_network(const json_t *detail)
{
	const json_t *network = json_object_get(detail, "network");
	bool off = json_is_false(json_object_get(detail, "allowInternetAccess"));

	print_list("allow-out", json_object_get(network, "allowOut"));
	print_list("deny-out", json_object_get(network, "denyOut"));
	printf("%-12s %s\n", "internet", off ? "no" : "yes");
}

static void print_json(const json_t *detail)
{
	static const char *const keys[] = { "network", "allowInternetAccess" };
	auto_json *out = json_object();

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		json_t *value = json_object_get(detail, keys[i]);

		if (value != NULL)
			ignore_err(json_object_set(out, keys[i], value)); /* as json_dumpf() */
	}
	cli_print_json(out);
}

static int run(struct cli *cli, int argc, char **argv)
{
	cleanup(wish_done) struct wish w = { .set = false };
	auto_json *detail = NULL;
	auto_free char *target = NULL;
	struct op op;
	int code = parse(argc, argv, &w);

	if (code != 0)
		return code;
	op_init(&op, 0, cli->signal_fd);
	if (cli_find(cli, argv[optind], &detail, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (!w.set) {
		if (w.json)
			print_json(detail);
		else
			print_network(detail);
		return EXIT_OK;
	}
	target = str_printf("/sandboxes/%s/network", json_text(detail, "sandboxID"));
	if (cli_call(cli, "PUT", target, w.change, NULL, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	return EXIT_OK;
}

const struct verb verb_network = {
	.name = "network",
	.usage = "[--json | --clear] " EGRESS_USAGE "\n           SANDBOX",
	.summary = "Show or change where a sandbox may go",
	.help = EGRESS_HELP "  --clear            it may go everywhere again\n"
			    "  --json             show it as JSON\n",
	.run = run,
};
