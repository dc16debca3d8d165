/* SPDX-License-Identifier: Apache-2.0 */
/* viv run, viv create: make a sandbox, and run a command in it. */
#include "base/parse.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/egress.h"
#include "cli/env.h"
#include "cli/exec.h"
#include "cli/forward.h"
#include "cli/policy.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>

/* Behind those of cli/egress.h and cli/policy.h. */
enum { OPTION_KEYS = 512, OPTION_TEMPLATE };

struct wish {
	bool keep;
	bool json;
	bool at_it; /* an option was given about being at the command */
	struct exec_options exec;
	struct forward ports; /* of --publish */
	json_t *env;          /* owned */
	json_t *request;      /* owned */
	json_t *own;          /* its object `vivarium`; borrowed */
	char **command;       /* NULL-terminated; may be empty */
};

static void wish_done(struct wish *w)
{
	forward_stop(&w->ports);
	json_decref(w->request);
}

static int set_number(struct wish *w, const char *key, uint64_t value)
{
	return json_object_set_new(w->own, key, json_integer((json_int_t)value));
}

static int set_size(const struct verb *verb, struct wish *w, const char *option, const char *key)
{
	uint64_t mib;

	if (parse_size_mib(optarg, &mib) < 0 || mib < 1 || mib > INT_MAX)
		return cli_usage(verb, "--%s %s is no size; say for example 512M or 2G", option,
				 optarg);
	return set_number(w, key, mib);
}

static int take_option(const struct verb *verb, struct wish *w, int c)
{
	uint64_t n;

	if (egress_is_option(c))
		return egress_take_option(w->request, json_object_get(w->request, "network"), c);
	if (policy_is_option(c))
		return policy_take_option(verb, w->own, c);
	switch (c) {
	case 'n':
		return json_object_set_new(w->own, "name", json_string(optarg));
	case OPTION_TEMPLATE:
		if (optarg[0] == '\0')
			return cli_usage(verb, "--template names nothing");
		return json_object_set_new(w->request, "templateID", json_string(optarg));
	case 'c':
		if (parse_u64(optarg, 1, INT_MAX, &n) < 0)
			return cli_usage(verb, "--cpus %s is no number of CPUs; say 1 or more",
					 optarg);
		return set_number(w, "cpus", n);
	case 'm':
		return set_size(verb, w, "memory", "memoryMB");
	case 'd':
		return set_size(verb, w, "disk", "diskSizeMB");
	case 'e':
		return env_add(w->env, optarg) < 0
			       ? cli_usage(verb,
					   "--env %s: say NAME=VALUE, or NAME to pass yours on",
					   optarg)
			       : 0;
	case 'u':
		return json_object_set_new(w->own, "user", json_string(optarg));
	case 'w':
		return json_object_set_new(w->own, "workdir", json_string(optarg));
	case 'p':
		return forward_add(&w->ports, optarg) < 0
			       ? cli_usage(verb, "--publish %s is no [[ADDRESS:]HERE:]PORT", optarg)
			       : 0;
	case 'k':
		w->keep = true;
		return 0;
	case 'j':
		w->json = true;
		return 0;
	case 'i':
	case 't':
		w->at_it = true;
		w->exec.tty = w->exec.tty || c == 't';
		return 0;
	case OPTION_KEYS:
		w->at_it = true;
		w->exec.detach_keys = optarg;
		return 0;
	default:
		return EXIT_USAGE;
	}
}

/* Return: 0; an exit code, after saying why. */
static int parse(const struct verb *verb, int argc, char **argv, struct wish *w)
{
	static const struct option options[] = {
		{ "name", required_argument, NULL, 'n' },
		{ "template", required_argument, NULL, OPTION_TEMPLATE },
		{ "cpus", required_argument, NULL, 'c' },
		{ "memory", required_argument, NULL, 'm' },
		{ "disk", required_argument, NULL, 'd' },
		{ "env", required_argument, NULL, 'e' },
		{ "user", required_argument, NULL, 'u' },
		{ "workdir", required_argument, NULL, 'w' },
		{ "publish", required_argument, NULL, 'p' },
		{ "keep", no_argument, NULL, 'k' },
		{ "json", no_argument, NULL, 'j' },
		POLICY_OPTIONS,
		EGRESS_OPTIONS,
		{ "interactive", no_argument, NULL, 'i' },
		{ "tty", no_argument, NULL, 't' },
		{ "detach-keys", required_argument, NULL, OPTION_KEYS },
		{ 0 },
	};
	int c;

	w->request = json_pack("{s:s, s:n, s:{}, s:{}, s:{}}", "templateID", "base", "timeout",
			       "envVars", "network", "vivarium");
	w->env = json_object_get(w->request, "envVars");
	w->own = json_object_get(w->request, "vivarium");
	while ((c = getopt_long(argc, argv, "+e:u:w:p:it", options, NULL)) != -1) {
		int r = take_option(verb, w, c);

		if (r < 0)
			return cli_usage(verb, "'%s' is not UTF-8", optarg);
		if (r > 0)
			return r;
	}
	w->command = argv + optind;
	return 0;
}

static int make(struct cli *cli, const struct wish *w, json_t **out, struct op *op)
{
	return cli_call(cli, "POST", "/v2/sandboxes", w->request, out, op);
}

/* @once: the sandbox is for this command alone. */
static int run_command(struct cli *cli, const struct wish *w, json_t *sandbox, bool once,
		       bool *out_left)
{
	auto_guest guest = { 0 };

	guest_init(&guest, cli, json_incref(sandbox));
	return exec_run(&(struct exec_spec){ .guest = &guest,
					     .options = &w->exec,
					     .argv = w->command,
					     .second_interrupt_ends = once },
			out_left);
}

/* Whoever connects before the sandbox is there waits in the socket's queue. */
static int run_published(struct cli *cli, struct wish *w, json_t *sandbox, bool *out_left)
{
	struct op op;
	int code;

	op_init(&op, 0, cli->signal_fd);
	if (w->ports.n > 0 &&
	    forward_start(&w->ports, cli, json_text(sandbox, "sandboxID"), &op.err) < 0)
		return cli_fail(cli, &op, EXIT_VIV);
	code = run_command(cli, w, sandbox, true, out_left);
	forward_stop(&w->ports);
	return code;
}

/* The command's exit code is what counts; a removal that fails is told, and `viv rm` repeats it. */
static void remove_sandbox(struct cli *cli, const json_t *sandbox)
{
	auto_free char *target = str_printf("/sandboxes/%s", json_text(sandbox, "sandboxID"));
	struct op op;

	op_init(&op, 0, -1); /* a second Ctrl-C does not leave it behind */
	if (cli_call(cli, "DELETE", target, NULL, NULL, &op) < 0 && op.err.kind != ERR_NOT_FOUND)
		cli_fail(cli, &op, EXIT_FAILED);
}

static int run(struct cli *cli, int argc, char **argv)
{
	cleanup(wish_done) struct wish w = { .command = argv, .ports = FORWARD_INIT };
	auto_json *sandbox = NULL;
	struct op op;
	bool left = false;
	int code = parse(&verb_run, argc, argv, &w);

	if (code == 0 && w.json)
		return cli_usage(&verb_run, "it has no --json");
	if (code == 0 && w.command[0] == NULL)
		return cli_usage(&verb_run, "no command");
	if (code == 0)
		code = exec_check(&verb_run, &w.exec);
	if (code != 0)
		return code;
	op_init(&op, 0, cli->signal_fd);
	/* A port that is taken is no reason to make a sandbox. */
	if (forward_listen(&w.ports, FORWARD_BIND, &op.err) < 0 || make(cli, &w, &sandbox, &op) < 0)
		return cli_fail(cli, &op, EXIT_VIV);
	code = run_published(cli, &w, sandbox, &left);
	if (w.keep || left)
		fprintf(stderr, "viv: kept sandbox %s\n", json_text(sandbox, "sandboxID"));
	else
		remove_sandbox(cli, sandbox);
	return code;
}

static int create(struct cli *cli, int argc, char **argv)
{
	cleanup(wish_done) struct wish w = { .command = argv, .ports = FORWARD_INIT };
	auto_json *sandbox = NULL;
	struct op op;
	bool left;
	int code = parse(&verb_create, argc, argv, &w);

	if (code == 0 && (w.keep || w.at_it || w.ports.n > 0))
		return cli_usage(&verb_create, "it has no --%s",
				 w.keep ? "keep" : (w.at_it ? "tty" : "publish"));
	if (code != 0)
		return code;
	op_init(&op, 0, cli->signal_fd);
	if (make(cli, &w, &sandbox, &op) < 0)
		return cli_fail(cli, &op, EXIT_VIV);
	if (w.command[0] == NULL) {
		if (w.json)
			json_dumpf(sandbox, stdout, JSON_INDENT(2));
		else
			fputs(json_text(sandbox, "sandboxID"), stdout);
		putchar('\n');
		return EXIT_OK;
	}
	fprintf(stderr, "viv: made sandbox %s\n", json_text(sandbox, "sandboxID"));
	return run_command(cli, &w, sandbox, false, &left);
}

#define WISH_USAGE                                                                                 \
	"[--name NAME] [--template NAME] [--cpus N] [--memory SIZE] [--disk SIZE]\n"               \
	"           [--env NAME[=VALUE]]... [--user USER] [--workdir DIR]\n"                       \
	"           " POLICY_USAGE "\n"                                                            \
	"           " EGRESS_USAGE "\n"                                                            \
	"           "
#define WISH_HELP                                                                                  \
	"  --name NAME        name it, so that other verbs can\n"                                  \
	"  --template NAME    what it is made from (base)\n"                                       \
	"  --cpus N           virtual CPUs (1)\n"                                                  \
	"  --memory SIZE      memory, e.g. 512M or 2G (512M)\n"                                    \
	"  --disk SIZE        disk as the guest sees it (5G)\n"                                    \
	"  -e, --env N[=V]    environment of all its commands; without =V yours is passed on\n"    \
	"  -u, --user USER    who commands run as (user)\n"                                        \
	"  -w, --workdir DIR  where they run (the user's home)\n" POLICY_HELP EGRESS_HELP

const struct verb verb_run = {
	.name = "run",
	.usage = "[-i] [-t] " WISH_USAGE "[--publish PORTS]... [--keep] -- COMMAND...",
	.summary = "Make a sandbox, run a command in it, and remove it",
	.help = WISH_HELP
	"  -p, --publish PORTS  [[ADDRESS:]HERE:]PORT: a port of here leads to one of its\n"
	"  --keep             do not remove it at the end\n"
	"  -t, --tty          give the command a terminal, which ours becomes\n"
	"  -i, --interactive  pass stdin on, which is always done\n"
	"  --detach-keys KEYS  what leaves the terminal and the sandbox (ctrl-p,ctrl-q)\n",
	.run = run,
};

const struct verb verb_create = {
	.name = "create",
	.usage = WISH_USAGE "[--json] [-- COMMAND...]",
	.summary = "Make a sandbox that stays, print its id, or run a command in it",
	.help = WISH_HELP "  --json             print it as JSON\n",
	.run = create,
};
