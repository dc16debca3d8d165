/* SPDX-License-Identifier: Apache-2.0 */
/* viv snapshot: what a sandbox is now, under a name, to make others of. */
#include "base/str.h"
#include "cli/each.h"

#include <getopt.h>
#include <stdio.h>

static int run_make(struct cli *cli, int argc, char **argv)
{
	auto_json *made = NULL;
	auto_json *body = json_object();
	auto_free char *target = NULL;
	const json_t *own;
	struct op op;

	if (argc > 2)
		return cli_usage(&verb_snapshot, "'%s' is one name too many", argv[2]);
	if (argc == 2 && json_object_set_new(body, "name", json_string(argv[1])) < 0)
		return cli_usage(&verb_snapshot, "the name is not UTF-8");
	op_init(&op, 0, cli->signal_fd);
	target = cli_sandbox_target(cli, argv[0], "/snapshots", &op);
	if (cli_call(cli, "POST", target, body, &made, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	own = json_object_get(made, "vivarium");
	printf("%s  %s\n", json_text(made, "snapshotID"),
	       size_text(json_bytes(own, "allocatedBytes")).s);
	return EXIT_OK;
}

static void print_row(const json_t *s)
{
	const json_t *own = json_object_get(s, "vivarium");
	auto_free char *fault = plain_text(json_text(own, "error"));

	if (fault[0] != '\0') {
		printf("%-32s  damaged: %s\n", json_text(s, "snapshotID"), fault);
		return;
	}
	printf("%-32s  %.19sZ  %-20s  %4" JSON_INTEGER_FORMAT "  %6s  %7s\n",
	       json_text(s, "snapshotID"), json_text(own, "createdAt"), json_text(own, "sandboxID"),
	       json_number(own, "cpus"), size_text(json_mib(own, "memoryMB")).s,
	       size_text(json_bytes(own, "allocatedBytes")).s);
}

static int run_ls(struct cli *cli, int argc, bool json)
{
	auto_json *all = json_array();
	const json_t *s;
	struct op op;
	size_t i;

	if (argc > 1)
		return cli_usage(&verb_snapshot, "ls takes no argument");
	op_init(&op, 0, cli->signal_fd);
	if (cli_pages(cli, "/snapshots?", all, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (json)
		return cli_print_json(all);
	printf("%-32s  %-20s  %-20s  %4s  %6s  %7s\n", "NAME", "CREATED", "SANDBOX", "CPUS",
	       "MEMORY", "ON DISK");
	json_array_foreach(all, i, s)
	{
		print_row(s);
	}
	return EXIT_OK;
}

/* Without a tag it may be a template's name, too: that is not meant. */
static int remove_one(struct cli *cli, const char *name, const void *arg, struct op *op)
{
	auto_free char *whole =
		str_printf("%s%s", name, strchr(name, ':') != NULL ? "" : ":default");
	auto_free char *target = cli_target("/templates/", whole, "", "snapshot", op);
	int r = cli_call(cli, "DELETE", target, NULL, NULL, op);

	(void)arg;
	if (r == 0)
		puts(whole);
	return r;
}

static int run(struct cli *cli, int argc, char **argv)
{
	bool json = false;

	if (!cli_take_json(argc, argv, &json))
		return EXIT_USAGE;
	argc -= optind;
	argv += optind;
	if (argc == 0)
		return cli_usage(&verb_snapshot, "say of which sandbox, or ls or rm");
	if (json && !streq(argv[0], "ls"))
		return cli_usage(&verb_snapshot, "--json is for ls");
	if (streq(argv[0], "ls"))
		return run_ls(cli, argc, json);
	if (streq(argv[0], "rm"))
		return argc > 1 ? each_name(cli, argv + 1, remove_one, NULL)
				: cli_usage(&verb_snapshot, "say which snapshots");
	return run_make(cli, argc, argv);
}

const struct verb verb_snapshot = {
	.name = "snapshot",
	.usage = "SANDBOX [NAME[:TAG]] | ls [--json] | rm NAME[:TAG]...",
	.summary = "Keep what a sandbox is now, to make others of",
	.help = "  --json  of ls: as JSON\n"
		"\n"
		"`viv run --template NAME[:TAG]` makes a sandbox of it. Without a tag it is "
		"`default`.\n",
	.run = run,
};
