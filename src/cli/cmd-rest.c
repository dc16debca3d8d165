/* SPDX-License-Identifier: Apache-2.0 */
/* viv pause, resume, stop, start, restart: sandboxes at rest and back. */
#include "base/str.h"
#include "cli/cli.h"

#include <getopt.h>
#include <stdio.h>

/* One of the verbs: what is asked of each sandbox. */
struct rest_verb {
	const struct verb *verb;
	bool rest;   /* it comes to rest */
	bool go;     /* it goes on, or starts, after that if both */
	bool memory; /* with its memory */
};

static int rest(struct cli *cli, const char *id, bool memory, struct op *op)
{
	auto_free char *target = str_printf("/sandboxes/%s/pause", id);
	auto_json *body = json_pack("{s:b}", "memory", memory);

	return cli_call(cli, "POST", target, body, NULL, op);
}

/* What runs by hand has no deadline. */
static int go_on(struct cli *cli, const char *id, bool memory, struct op *op)
{
	auto_free char *target = str_printf("/sandboxes/%s/resume", id);
	auto_json *body = json_pack("{s:b, s:n}", "memory", memory, "timeout");

	return cli_call(cli, "POST", target, body, NULL, op);
}

static bool is_at_rest(const json_t *detail)
{
	const char *state = json_text(json_object_get(detail, "vivarium"), "state");

	return streq(state, "paused") || streq(state, "stopped");
}

static int serve(struct cli *cli, const struct rest_verb *v, const char *name, struct op *op)
{
	auto_json *detail = NULL;
	const char *id;
	int r = cli_find(cli, name, &detail, op);

	if (r < 0)
		return r;
	id = json_text(detail, "sandboxID");
	if (v->rest && !(v->go && is_at_rest(detail)))
		r = rest(cli, id, v->memory, op);
	return r < 0 || !v->go ? r : go_on(cli, id, v->memory, op);
}

static int run(struct cli *cli, const struct rest_verb *v, int argc, char **argv)
{
	static const struct option options[] = { { 0 } };
	int code = EXIT_OK;

	if (getopt_long(argc, argv, "", options, NULL) != -1)
		return EXIT_USAGE;
	if (optind == argc)
		return cli_usage(v->verb, "say which sandboxes");
	for (int i = optind; i < argc; i++) {
		struct op op;

		op_init(&op, 0, cli->signal_fd);
		if (serve(cli, v, argv[i], &op) == 0)
			puts(argv[i]);
		else
			code = cli_fail(cli, &op, EXIT_FAILED);
		if (code > EXIT_SIGNAL_BASE)
			break;
	}
	return code;
}

static int run_pause(struct cli *cli, int argc, char **argv)
{
	return run(cli, &(struct rest_verb){ &verb_pause, .rest = true, .memory = true }, argc,
		   argv);
}

static int run_resume(struct cli *cli, int argc, char **argv)
{
	return run(cli, &(struct rest_verb){ &verb_resume, .go = true, .memory = true }, argc,
		   argv);
}

static int run_stop(struct cli *cli, int argc, char **argv)
{
	return run(cli, &(struct rest_verb){ &verb_stop, .rest = true }, argc, argv);
}

static int run_start(struct cli *cli, int argc, char **argv)
{
	return run(cli, &(struct rest_verb){ &verb_start, .go = true }, argc, argv);
}

static int run_restart(struct cli *cli, int argc, char **argv)
{
	return run(cli, &(struct rest_verb){ &verb_restart, .rest = true, .go = true }, argc, argv);
}

const struct verb verb_pause = {
	.name = "pause",
	.usage = "SANDBOX...",
	.summary = "Save sandboxes, memory and all, and free what they hold",
	.help = "",
	.run = run_pause,
};

const struct verb verb_resume = {
	.name = "resume",
	.usage = "SANDBOX...",
	.summary = "Go on with paused sandboxes where they were",
	.help = "",
	.run = run_resume,
};

const struct verb verb_stop = {
	.name = "stop",
	.usage = "SANDBOX...",
	.summary = "Shut sandboxes down and keep their disks",
	.help = "",
	.run = run_stop,
};

const struct verb verb_start = {
	.name = "start",
	.usage = "SANDBOX...",
	.summary = "Boot sandboxes that are at rest from their disks",
	.help = "",
	.run = run_start,
};

const struct verb verb_restart = {
	.name = "restart",
	.usage = "SANDBOX...",
	.summary = "Stop sandboxes and boot them again",
	.help = "",
	.run = run_restart,
};
