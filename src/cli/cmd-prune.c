/* SPDX-License-Identifier: Apache-2.0 */
/* viv prune: remove what nothing uses. */
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

static void print_removed(const json_t *items)
{
	const json_t *item;
	size_t i;

	json_array_foreach(items, i, item)
		printf("%-10s  %-44s  %6s\n", json_text(item, "kind"), json_text(item, "name"),
		       size_text(json_bytes(item, "bytes")).s);
}

static int print_failed(const json_t *items)
{
	const json_t *item;
	size_t i;

	json_array_foreach(items, i, item)
		fprintf(stderr, "viv: %s %s: %s\n", json_text(item, "kind"),
			json_text(item, "name"), json_text(item, "why"));
	return json_array_size(items) == 0 ? EXIT_OK : EXIT_FAILED;
}

static int print_all(const json_t *o, bool dry_run)
{
	print_removed(json_object_get(o, "removed"));
	printf("%s %s.\n", size_text(json_bytes(o, "bytes")).s,
	       dry_run ? "would be removed" : "were removed");
	return print_failed(json_object_get(o, "failed"));
}

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
						 { "dry-run", no_argument, NULL, 'n' },
						 { 0 } };
	auto_json *body = NULL;
	auto_json *reply = NULL;
	bool dry_run = false;
	bool json = false;
	struct op op;
	int c;

	while ((c = getopt_long(argc, argv, "n", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		dry_run = dry_run || c == 'n';
		json = json || c == 'j';
	}
	if (optind < argc)
		return cli_usage(&verb_prune, "it takes no '%s'", argv[optind]);
	body = json_pack("{s:b}", "dryRun", dry_run);
	op_init(&op, 0, cli->signal_fd);
	if (cli_call(cli, "POST", "/prune", body, &reply, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (!json)
		return print_all(reply, dry_run);
	cli_print_json(reply);
	return json_array_size(json_object_get(reply, "failed")) == 0 ? EXIT_OK : EXIT_FAILED;
}

const struct verb verb_prune = {
	.name = "prune",
	.usage = "[--dry-run] [--json]",
	.summary = "Remove kernels, initramfs images and templates that nothing uses",
	.help = "  -n, --dry-run  only say what would be removed\n"
		"  --json         as JSON, with what is kept, and why\n"
		"\n"
		"Sandboxes are never removed, nor what any of them needs.\n",
	.run = run,
};
