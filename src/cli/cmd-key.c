/* SPDX-License-Identifier: Apache-2.0 */
/* viv key: the keys that clients of the API over TCP need. */
#include "base/str.h"
#include "cli/each.h"

#include <getopt.h>
#include <stdio.h>

static int run_create(struct cli *cli, int argc, char **argv)
{
	auto_json *body = json_object();
	auto_json *key = NULL;
	struct op op;

	if (argc > 2)
		return cli_usage(&verb_key, "a key has one name");
	if (argc == 2 && json_object_set_new(body, "name", json_string(argv[1])) < 0)
		return cli_usage(&verb_key, "the name is not UTF-8");
	op_init(&op, 0, cli->signal_fd);
	if (cli_call(cli, "POST", "/keys", body, &key, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	puts(json_text(key, "key"));
	fprintf(stderr, "viv: this is key %s; keep it, it is not shown again\n",
		json_text(key, "name"));
	return EXIT_OK;
}

/* A time without its fraction; "never". */
static void print_key(const json_t *key)
{
	const char *used = json_text(key, "lastUsedAt");

	printf("%-13s  %-20s  %-11s  %.19sZ  ", json_text(key, "id"), json_text(key, "name"),
	       json_text(key, "prefix"), json_text(key, "createdAt"));
	if (used[0] != '\0')
		printf("%.19sZ\n", used);
	else
		puts("never");
}

static int run_ls(struct cli *cli, int argc, bool json)
{
	auto_json *keys = NULL;
	struct op op;
	const json_t *key;
	size_t i;

	if (argc > 1)
		return cli_usage(&verb_key, "ls takes no argument");
	op_init(&op, 0, cli->signal_fd);
	if (cli_call(cli, "GET", "/keys", NULL, &keys, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (json)
		return cli_print_json(keys);
	printf("%-13s  %-20s  %-11s  %-20s  %s\n", "ID", "NAME", "BEGINS WITH", "CREATED",
	       "LAST USED");
	json_array_foreach(keys, i, key) print_key(key);
	return EXIT_OK;
}

static int remove_one(struct cli *cli, const char *name, const void *arg, struct op *op)
{
	auto_free char *target = cli_target("/keys/", name, "", "key", op);
	int r = cli_call(cli, "DELETE", target, NULL, NULL, op);

	(void)arg;
	if (r == 0)
		puts(name);
	return r;
}

static int run(struct cli *cli, int argc, char **argv)
{
	const char *what;
	bool json = false;

	if (!cli_take_json(argc, argv, &json))
		return EXIT_USAGE;
	argc -= optind;
	argv += optind;
	what = argc > 0 ? argv[0] : "";
	if (json && !streq(what, "ls"))
		return cli_usage(&verb_key, "--json is for ls");
	if (streq(what, "create"))
		return run_create(cli, argc, argv);
	if (streq(what, "ls"))
		return run_ls(cli, argc, json);
	if (streq(what, "rm"))
		return argc > 1 ? each_name(cli, argv + 1, remove_one, NULL)
				: cli_usage(&verb_key, "say which keys");
	return cli_usage(&verb_key, "say create, ls or rm");
}

const struct verb verb_key = {
	.name = "key",
	.usage = "create [NAME] | ls [--json] | rm KEY...",
	.summary = "Make, list and remove the keys of API clients",
	.help = "  --json  of ls: as JSON\n",
	.run = run,
};
