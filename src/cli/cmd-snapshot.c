/* SPDX-License-Identifier: Apache-2.0 */
/* viv snapshot: what a sandbox is now, under a name, to make others of. */
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

static const double mib_bytes = 1024 * 1024;

static int run_make(struct cli *cli, int argc, char **argv)
{
	auto_json *detail = NULL;
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
	if (cli_find(cli, argv[0], &detail, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	target = str_printf("/sandboxes/%s/snapshots", json_text(detail, "sandboxID"));
	if (cli_call(cli, "POST", target, body, &made, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	own = json_object_get(made, "vivarium");
	printf("%s  %.1fM\n", json_text(made, "snapshotID"),
	       (double)json_number(own, "allocatedBytes") / mib_bytes);
	return EXIT_OK;
}

static void print_row(const json_t *s)
{
	const json_t *own = json_object_get(s, "vivarium");
	auto_free char *fault = cli_plain_text(json_text(own, "error"));

	if (fault[0] != '\0') {
		printf("%-32s  damaged: %s\n", json_text(s, "snapshotID"), fault);
		return;
	}
	printf("%-32s  %.19sZ  %-20s  %4" JSON_INTEGER_FORMAT "  %6" JSON_INTEGER_FORMAT
	       "M  %8.1fM\n",
	       json_text(s, "snapshotID"), json_text(own, "createdAt"), json_text(own, "sandboxID"),
	       json_number(own, "cpus"), json_number(own, "memoryMB"),
	       (double)json_number(own, "allocatedBytes") / mib_bytes);
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
	if (json) {
		json_dumpf(all, stdout, JSON_INDENT(2));
		putchar('\n');
		return EXIT_OK;
	}
	printf("%-32s  %-20s  %-20s  %4s  %7s  %9s\n", "NAME", "CREATED", "SANDBOX", "CPUS",
	       "MEMORY", "ON DISK");
	json_array_foreach(all, i, s)
	{
		print_row(s);
	}
	return EXIT_OK;
}

static int remove_one(struct cli *cli, const char *name, struct op *op)
{
	auto_free char *target = str_printf("/templates/%.140s", name);

	/* No character of a name means anything in a path; others name nothing. */
	if (name[0] == '\0' ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-:") != strlen(name))
		return err_set(&op->err, ERR_NOT_FOUND, "no snapshot '%.140s'", name);
	return cli_call(cli, "DELETE", target, NULL, NULL, op);
}

static int run_rm(struct cli *cli, int argc, char **argv)
{
	int code = EXIT_OK;

	if (argc < 2)
		return cli_usage(&verb_snapshot, "say which snapshots");
	for (int i = 1; i < argc && code <= EXIT_SIGNAL_BASE; i++) {
		/* Without a tag it may be a template's name, too: that is not meant. */
		auto_free char *name = strchr(argv[i], ':') != NULL
					       ? str_dup(argv[i])
					       : str_printf("%s:default", argv[i]);
		struct op op;

		op_init(&op, 0, cli->signal_fd);
		if (remove_one(cli, name, &op) == 0)
			puts(name);
		else
			code = cli_fail(cli, &op, EXIT_FAILED);
	}
	return code;
}

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	bool json = false;
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		json = true;
	}
	argc -= optind;
	argv += optind;
	if (argc == 0)
		return cli_usage(&verb_snapshot, "say of which sandbox, or ls or rm");
	if (json && !streq(argv[0], "ls"))
		return cli_usage(&verb_snapshot, "--json is for ls");
	if (streq(argv[0], "ls"))
		return run_ls(cli, argc, json);
	if (streq(argv[0], "rm"))
		return run_rm(cli, argc, argv);
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
