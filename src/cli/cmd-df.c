/* SPDX-License-Identifier: Apache-2.0 */
/* viv df: what takes room. */
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

static double mib(json_int_t bytes)
{
	return (double)bytes / (1024 * 1024);
}

static void print_row(const char *kind, const char *name, json_int_t bytes, const char *note)
{
	printf("%-10s  %-44s  %9.1fM%s%s\n", kind, name, mib(bytes), note[0] != '\0' ? "  " : "",
	       note);
}

static json_int_t print_items(const json_t *items)
{
	json_int_t unused = 0;
	const json_t *item;
	size_t i;

	json_array_foreach(items, i, item)
	{
		bool is_unused = json_is_true(json_object_get(item, "unused"));

		print_row(json_text(item, "kind"), json_text(item, "name"),
			  json_number(item, "bytes"), is_unused ? "unused" : "");
		unused += is_unused ? json_number(item, "bytes") : 0;
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
	print_row("sandbox", name, json_number(s, "bytes"), note);
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
		print_row("snapshot", json_text(s, "snapshotID"), json_number(s, "bytes"), "");
	}
}

static void print_memory(const json_t *m)
{
	printf("Sandboxes have %lldM of memory to themselves, and are counted as %lldM of at most "
	       "%lldM.\n",
	       (long long)json_number(m, "ownMB"), (long long)json_number(m, "countedMB"),
	       (long long)json_number(m, "mostMB"));
}

static void print_all(const json_t *o)
{
	const json_t *state = json_object_get(o, "stateDir");
	const json_t *run = json_object_get(o, "runDir");
	json_int_t unused;

	printf("%-10s  %-44s  %10s\n", "KIND", "NAME", "SIZE");
	unused = print_items(json_object_get(o, "items"));
	print_sandboxes(json_object_get(o, "sandboxes"));
	print_snapshots(json_object_get(o, "snapshots"));
	print_row("run", json_text(run, "path"), json_number(o, "runBytes"), "");
	printf("\n%.1fM are free in %s, %.1fM in %s.\n", mib(json_number(state, "freeBytes")),
	       json_text(state, "path"), mib(json_number(run, "freeBytes")),
	       json_text(run, "path"));
	if (json_number(state, "freeBytes") < json_number(o, "reserveBytes"))
		printf("That is less than the %.1fM of disk_reserve: nothing new is made.\n",
		       mib(json_number(o, "reserveBytes")));
	print_memory(json_object_get(o, "memory"));
	if (unused > 0)
		printf("viv prune would free %.1fM.\n", mib(unused));
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
