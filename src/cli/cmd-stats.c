/* SPDX-License-Identifier: Apache-2.0 */
/* viv stats: what sandboxes use, again and again. */
#include "base/str.h"
#include "cli/usage.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <unistd.h>

struct view {
	struct cli *cli;
	char *const *names; /* NULL = all */
	size_t n_names;
	bool json;
	bool stream;
};

static json_t *json_of_row(const struct usage_row *r)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:I, s:I}", "sandboxID", r->id, "name", r->name,
			      "state", r->state, "memLimitBytes", (json_int_t)r->mem_limit,
			      "diskLimitBytes", (json_int_t)r->disk_limit);
	json_t *seen = !r->sampled ? NULL
				   : json_pack("{s:f, s:I, s:I}", "cpuPct", r->cpu, "hostMemBytes",
					       (json_int_t)r->host_mem, "hostDiskBytes",
					       (json_int_t)r->host_disk);
	json_t *told = !r->told ? NULL
				: json_pack("{s:I, s:I}", "guestMemBytes", (json_int_t)r->mem_used,
					    "guestDiskBytes", (json_int_t)r->disk_used);

	/* What is not known is missing. */
	if (seen != NULL)
		ignore_err(json_object_update(o, seen));
	if (told != NULL)
		ignore_err(json_object_update(o, told));
	json_decref(seen);
	json_decref(told);
	return o;
}

static void print_json(const struct usage_rows *rows)
{
	vec_foreach (row, rows) {
		auto_json *o = json_of_row(row);

		json_dumpf(o, stdout, JSON_COMPACT);
		putchar('\n');
	}
}

static void print_table(const struct usage_rows *rows, bool clear)
{
	if (clear)
		fputs("\033[H\033[2J", stdout);
	usage_print_head(stdout);
	putchar('\n');
	vec_foreach (row, rows) {
		usage_print_row(stdout, row);
		putchar('\n');
	}
}

/* Return: 0; an exit code that ends it. */
static int show(const struct view *v)
{
	struct usage_rows rows = { 0 };
	struct op op;
	int r;

	op_init(&op, 0, v->cli->signal_fd);
	r = usage_fetch(v->cli, v->names, v->n_names, &rows, &op);
	if (r == 0 && v->json)
		print_json(&rows);
	else if (r == 0)
		print_table(&rows, v->stream && isatty(STDOUT_FILENO));
	usage_rows_done(&rows);
	if (r < 0 && op.err.kind == ERR_CANCELLED)
		return usage_interrupted(v->cli);
	return r < 0 ? cli_fail(v->cli, &op, EXIT_FAILED) : 0;
}

static int stream(const struct view *v)
{
	for (;;) {
		int r = show(v);

		if (r != 0 || !v->stream)
			return r;
		if (fflush(stdout) != 0)
			return EXIT_OK; /* main says why */
		r = usage_wait(v->cli, -1);
		if (r == -ECANCELED)
			return usage_interrupted(v->cli);
	}
}

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
						 { "no-stream", no_argument, NULL, 'n' },
						 { 0 } };
	struct view v = { .cli = cli, .stream = true };
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		v.json = v.json || c == 'j';
		v.stream = v.stream && c != 'n';
	}
	if (optind < argc) {
		v.names = argv + optind;
		v.n_names = (size_t)(argc - optind);
	}
	return stream(&v);
}

const struct verb verb_stats = {
	.name = "stats",
	.usage = "[--json] [--no-stream] [SANDBOX...]",
	.summary = "Show what sandboxes use, each second",
	.help = "  --json       as JSON, an object a line\n"
		"  --no-stream  once\n"
		"\n"
		"No guest is woken for it: what is \"in guest\" it told last.\n",
	.run = run,
};
