/* SPDX-License-Identifier: Apache-2.0 */
/* viv pause, resume, stop, start, restart: sandboxes at rest and back. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/each.h"

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

static int serve(struct cli *cli, const json_t *detail, const void *arg, struct op *op)
{
	const struct rest_verb *v = arg;
	const char *id = json_text(detail, "sandboxID");
	int r = 0;

	if (v->rest && !(v->go && is_at_rest(detail)))
		r = rest(cli, id, v->memory, op);
	return r < 0 || !v->go ? r : go_on(cli, id, v->memory, op);
}

/* What runs comes to rest, or what is at rest goes on. */
static bool suits(const json_t *detail, const void *arg)
{
	const struct rest_verb *v = arg;
	const char *state = json_text(json_object_get(detail, "vivarium"), "state");

	return v->rest ? streq(state, "running") : is_at_rest(detail);
}

/* Return: whether it rests. */
static bool tell(const json_t *result)
{
	const json_t *error = json_object_get(result, "error");
	const char *name = json_text(result, "name");
	auto_free char *message = plain_text(json_text(error, "message"));

	if (name[0] == '\0')
		name = json_text(result, "sandboxID");
	if (error == NULL)
		puts(name);
	else
		fprintf(stderr, "viv: %s: %s\n", name, message);
	return error == NULL;
}

static int rest_all(struct cli *cli, const void *arg)
{
	const struct rest_verb *v = arg;
	auto_json *body = json_pack("{s:b}", "memory", v->memory);
	auto_json *all = NULL;
	const json_t *result;
	int code = EXIT_OK;
	struct op op;
	size_t i;

	op_init(&op, 0, cli->signal_fd);
	if (cli_call(cli, "POST", "/sandboxes/pause", body, &all, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	json_array_foreach(all, i, result)
	{
		if (!tell(result))
			code = EXIT_FAILED;
	}
	return code;
}

static int run(struct cli *cli, const struct rest_verb *v, int argc, char **argv)
{
	const struct each each = { .verb = v->verb,
				   .serve = serve,
				   .suits = suits,
				   .serve_all = v->rest && !v->go ? rest_all : NULL,
				   .arg = v };

	return each_run(cli, &each, argc, argv);
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
	.usage = "--all | SANDBOX...",
	.summary = "Save sandboxes, memory and all, and free what they hold",
	.help = "  -a, --all  all that run\n",
	.run = run_pause,
};

const struct verb verb_resume = {
	.name = "resume",
	.usage = "--all | SANDBOX...",
	.summary = "Go on with paused sandboxes where they were",
	.help = "  -a, --all  all that are at rest\n",
	.run = run_resume,
};

const struct verb verb_stop = {
	.name = "stop",
	.usage = "--all | SANDBOX...",
	.summary = "Shut sandboxes down and keep their disks",
	.help = "  -a, --all  all that run\n",
	.run = run_stop,
};

const struct verb verb_start = {
	.name = "start",
	.usage = "--all | SANDBOX...",
	.summary = "Boot sandboxes that are at rest from their disks",
	.help = "  -a, --all  all that are at rest\n",
	.run = run_start,
};

const struct verb verb_restart = {
	.name = "restart",
	.usage = "--all | SANDBOX...",
	.summary = "Stop sandboxes and boot them again",
	.help = "  -a, --all  all that run\n",
	.run = run_restart,
};
