/* SPDX-License-Identifier: Apache-2.0 */
/* viv exec, viv shell: run a command in a sandbox that exists. */
#include "base/str.h"
#include "cli/cli.h"
#include "cli/env.h"
#include "cli/exec.h"
#include "cli/terminal.h"

#include <getopt.h>

enum { OPTION_KEYS = 256, OPTION_TAG };

struct wish {
	struct guest guest;
	struct exec_options options;
};

static void wish_done(struct wish *w)
{
	guest_done(&w->guest);
	json_decref(w->options.env);
}

/* Return: 0; an exit code, after saying why. */
static int take_option(const struct verb *verb, struct wish *w, int c)
{
	struct exec_options *o = &w->options;

	switch (c) {
	case 'e':
		return env_add(o->env, optarg) == 0
			       ? 0
			       : cli_usage(verb,
					   "--env %s: say NAME=VALUE, or NAME to pass yours on",
					   optarg);
	case 'u':
		w->guest.user = optarg;
		return 0;
	case 'w':
		o->workdir = optarg;
		return 0;
	case 'i':
		o->interactive = true;
		return 0;
	case 't':
		o->tty = true;
		return 0;
	case 'd':
		o->detached = true;
		return 0;
	case OPTION_TAG:
		o->tag = optarg;
		return 0;
	case OPTION_KEYS:
		o->detach_keys = optarg;
		return 0;
	default:
		return EXIT_USAGE;
	}
}

static int run_in(struct cli *cli, const char *name, struct wish *w, char *const *argv)
{
	struct op op;

	op_init(&op, 0, cli->signal_fd);
	if (guest_find(&w->guest, cli, name, &op) < 0)
		return cli_fail(cli, &op, EXIT_VIV);
	return exec_run(
		&(struct exec_spec){ .guest = &w->guest, .options = &w->options, .argv = argv },
		NULL);
}

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "env", required_argument, NULL, 'e' },
		{ "user", required_argument, NULL, 'u' },
		{ "workdir", required_argument, NULL, 'w' },
		{ "interactive", no_argument, NULL, 'i' },
		{ "tty", no_argument, NULL, 't' },
		{ "detach", no_argument, NULL, 'd' },
		{ "tag", required_argument, NULL, OPTION_TAG },
		{ "detach-keys", required_argument, NULL, OPTION_KEYS },
		{ 0 },
	};
	cleanup(wish_done) struct wish w = { .options.env = json_object() };
	char **command;
	int c;
	int r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "+e:u:w:itd", options, NULL)) != -1)
		r = take_option(&verb_exec, &w, c);
	if (r != 0)
		return r;
	if (argc - optind < 1)
		return cli_usage(&verb_exec, "no sandbox");
	command = argv + optind + 1;
	if (command[0] != NULL && streq(command[0], "--"))
		command++;
	if (command[0] == NULL)
		return cli_usage(&verb_exec, "no command");
	r = exec_check(&verb_exec, &w.options);
	return r != 0 ? r : run_in(cli, argv[optind], &w, command);
}

/* The shell of whoever it is, else one that is there. */
#define LOGIN_SHELL                                                                                \
	"while IFS=: read -r name x x x x x shell; do [ \"$name\" != \"$USER\" ] || break; done "  \
	"</etc/passwd; "                                                                           \
	"[ \"$name\" = \"$USER\" ] && [ -x \"$shell\" ] || shell=/bin/bash; "                      \
	"[ -x \"$shell\" ] || shell=/bin/sh; "                                                     \
	"SHELL=$shell; export SHELL; unset name x; exec \"$shell\" -l"

static int shell(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = {
		{ "env", required_argument, NULL, 'e' },
		{ "user", required_argument, NULL, 'u' },
		{ "workdir", required_argument, NULL, 'w' },
		{ "detach-keys", required_argument, NULL, OPTION_KEYS },
		{ 0 },
	};
	static char sh[] = "/bin/sh", flag[] = "-c", script[] = LOGIN_SHELL;
	char *const command[] = { sh, flag, script, NULL };
	cleanup(wish_done) struct wish w = { .options = { .env = json_object(),
							  .tty = terminal_is_there() } };
	int c;
	int r = 0;

	while (r == 0 && (c = getopt_long(argc, argv, "e:u:w:", options, NULL)) != -1)
		r = take_option(&verb_shell, &w, c);
	if (r != 0)
		return r;
	if (argc - optind != 1)
		return cli_usage(&verb_shell, "say which sandbox, and nothing else");
	r = exec_check(&verb_shell, &w.options);
	return r != 0 ? r : run_in(cli, argv[optind], &w, command);
}

const struct verb verb_exec = {
	.name = "exec",
	.usage = "[-i] [-t] [-d] [OPTIONS] SANDBOX [--] COMMAND...",
	.summary = "Run a command in a sandbox",
	.help = "  -t, --tty          give it a terminal, which ours becomes\n"
		"  -i, --interactive  with -d: keep its stdin open; else that is always passed on\n"
		"  -d, --detach       do not stay: print its pid\n"
		"  --tag NAME         name it, for attach, kill and wait\n"
		"  --detach-keys KEYS  what leaves the terminal (ctrl-p,ctrl-q)\n"
		"  -e, --env N[=V]    environment; without =V yours is passed on\n"
		"  -u, --user USER    who it runs as (the sandbox's default user)\n"
		"  -w, --workdir DIR  where it runs (the sandbox's default)\n",
	.run = run,
};

const struct verb verb_shell = {
	.name = "shell",
	.usage = "[OPTIONS] SANDBOX",
	.summary = "Log in to a sandbox: a shell of its user, with a terminal",
	.help = "  --detach-keys KEYS  what leaves the terminal (ctrl-p,ctrl-q)\n"
		"  -e, --env N[=V]    environment; without =V yours is passed on\n"
		"  -u, --user USER    who it runs as (the sandbox's default user)\n"
		"  -w, --workdir DIR  where it begins (the sandbox's default)\n",
	.run = shell,
};
