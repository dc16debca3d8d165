/* SPDX-License-Identifier: Apache-2.0 */
/* viv df: what takes room. */
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

static void print_row(const char *kind, const char *name, uint64_t bytes, const char *note)
{
	printf("%-10s  %-44s  %6s%s%s\n", kind, name, size_text(bytes).s,
	       note[0] != '\0' ? "  " : "", note);
}

static uint64_t print_items(const json_t *items)
{
	uint64_t unused = 0;
	const json_t *item;
	size_t i;

	json_array_foreach(items, i, item)
	{
		bool is_unused = json_is_true(json_object_get(item, "unused"));

		print_row(json_text(item, "kind"), json_text(item, "name"),
			  json_bytes(item, "bytes"), is_unused ? "unused" : "");
		unused += is_unused ? json_bytes(item, "bytes") : 0;
	}
	return unused;
}

static void print_sandbox(const json_t *s)
{
	auto_free char *name = str_printf("%s %s", json_text(s, "sandboxID"), json_text(s, "name"));
	const char *pool = json_text(s, "pool");
	auto_free char *ready = str_printf("ready, of the pool of %s", pool);
	const char *note = pool[0] != '\0' ? ready : "";

	if (!json_is_true(json_object_get(s, "known")))
		note = "no row of the store knows it";
	print_row("sandbox", name, json_bytes(s, "bytes"), note);
}

static void print_sandboxes(const json_t *sandboxes)
{
	const json_t *s;
	size_t i;

	json_array_foreach(sandboxes, i, s) print_sandbox(s);
}

static void print_snapshots(const json_t *snapshots)
{
	const json_t *s;
	size_t i;

	json_array_foreach(snapshots, i, s)
	{
		print_row("snapshot", json_text(s, "snapshotID"), json_bytes(s, "bytes"), "");
	}
}

static void print_memory(const json_t *m)
{
	printf("Sandboxes have %s of memory to themselves, and are counted as %s of at most %s.\n",
	       size_text(json_mib(m, "ownMB")).s, size_text(json_mib(m, "countedMB")).s,
	       size_text(json_mib(m, "mostMB")).s);
}

static void print_all(const json_t *o)
{
	const json_t *state = json_object_get(o, "stateDir");
	const json_t *run = json_object_get(o, "runDir");
	uint64_t unused;

	printf("%-10s  %-44s  %6s\n", "KIND", "NAME", "SIZE");
	unused = print_items(json_object_get(o, "items"));
	print_sandboxes(json_object_get(o, "sandboxes"));
	print_snapshots(json_object_get(o, "snapshots"));
	print_row("run", json_text(run, "path"), json_bytes(o, "runBytes"), "");
	printf("\n%s are free in %s, %s in %s.\n", size_text(json_bytes(state, "freeBytes")).s,
	       json_text(state, "path"), size_text(json_bytes(run, "freeBytes")).s,
	       json_text(run, "path"));
	if (json_number(state, "freeBytes") < json_number(o, "reserveBytes"))
		printf("That is less than the %s of disk_reserve: nothing new is made.\n",
		       size_text(json_bytes(o, "reserveBytes")).s);
	print_memory(json_object_get(o, "memory"));
	if (unused > 0)
		printf("viv prune would free %s.\n", size_text(unused).s);
}

static int run(struct cli *cli, int argc, char **argv)
{
	auto_json *all = NULL;
	bool json = false;
	struct op op;

	if (!cli_take_json(argc, argv, &json))
		return EXIT_USAGE;
	if (optind < argc)
		return cli_usage(&verb_df, "it takes no '%s'", argv[optind]);
	op_init(&op, 0, cli->signal_fd);
	if (cli_call(cli, "GET", "/df", NULL, &all, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (json) {
		cli_print_json(all);
	} else {
		print_all(all);
	}
	return EXIT_OK;
}

const struct verb verb_df = {
	.name = "df",
	.usage = "[--json]",
	.summary = "Show what takes room on this host",
	.help = "  --json  as JSON\n"
		"\n"
		"Sizes are what is allocated, in MiB; viv prune removes what is unused.\n",
	.run = run,
};
