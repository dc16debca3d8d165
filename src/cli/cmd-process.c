/* SPDX-License-Identifier: Apache-2.0 */
/* viv ps, attach, kill, wait: the processes that clients started in a sandbox. */
#include "base/parse.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/exec.h"

#include <ctype.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

enum { CALL_TIMEOUT_MS = 30000 };

/* How many bytes the control character at @s has, which a guest chose and which would do something
 * to our terminal: ASCII's, and those of Latin-1 in UTF-8. 0 = it is none. */
static size_t control_len(const char *s)
{
	if (s[0] == '\xc2' && (unsigned char)s[1] >= 0x80 && (unsigned char)s[1] < 0xa0)
		return 2;
	return iscntrl((unsigned char)s[0]) ? 1 : 0;
}

/* Prints what a guest says, with blanks behind it up to a width. */
static void print_plain(const char *s, int width)
{
	for (; *s != '\0'; width--) {
		size_t n = control_len(s);

		putchar(n > 0 ? '?' : *s);
		s += MAX(n, (size_t)1);
	}
	printf("%*s", MAX(width, 0), "");
}

static const char *or_dash(const char *s)
{
	return s[0] != '\0' ? s : "-";
}

static void print_process(const json_t *process)
{
	const json_t *config = json_object_get(process, "config");
	const json_t *arg;
	size_t i;

	printf("%6lld  ", (long long)json_number(process, "pid"));
	print_plain(or_dash(json_text(process, "tag")), 12);
	fputs("  ", stdout);
	print_plain(or_dash(json_text(process, "user")), 10);
	printf("  %-3s  ", json_is_true(json_object_get(process, "pty")) ? "yes" : "-");
	print_plain(json_text(config, "cmd"), 0);
	json_array_foreach(json_object_get(config, "args"), i, arg)
	{
		putchar(' ');
		print_plain(json_string_value(arg) ?: "", 0);
	}
	putchar('\n');
}

static int list(struct guest *g, bool json)
{
	auto_json *request = json_object();
	auto_json *reply = NULL;
	const json_t *all;
	const json_t *process;
	struct op op;
	size_t i;

	op_init(&op, CALL_TIMEOUT_MS, g->cli->signal_fd);
	if (guest_call(g, "List", request, &reply, &op) < 0)
		return cli_fail(g->cli, &op, EXIT_FAILED);
	all = json_object_get(reply, "processes");
	if (json)
		return cli_print_json(all);
	printf("%6s  %-12s  %-10s  %-3s  %s\n", "PID", "TAG", "USER", "TTY", "COMMAND");
	json_array_foreach(all, i, process) print_process(process);
	return EXIT_OK;
}

static int run_ps(struct cli *cli, int argc, char **argv)
{
	auto_guest guest = { 0 };
	bool json = false;
	struct op op;

	if (!cli_take_json(argc, argv, &json))
		return EXIT_USAGE;
	if (argc - optind != 1)
		return cli_usage(&verb_ps, "say which sandbox");
	op_init(&op, 0, cli->signal_fd);
	if (guest_find(&guest, cli, argv[optind], &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	return list(&guest, json);
}

/* The sandbox and the process that a verb names. Return: 0; an exit code, after saying why. */
static int find_process(const struct verb *verb, struct cli *cli, int argc, char **argv,
			struct guest *out)
{
	struct op op;

	if (argc - optind != 2)
		return cli_usage(verb, "say which sandbox, and the pid or tag of a process in it");
	op_init(&op, 0, cli->signal_fd);
	return guest_find(out, cli, argv[optind], &op) < 0 ? cli_fail(cli, &op, EXIT_VIV) : 0;
}

static int run_attach(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "no-stdin", no_argument, NULL, 'i' },
						 { "no-signals", no_argument, NULL, 's' },
						 { "detach-keys", required_argument, NULL, 'k' },
						 { 0 } };
	auto_guest guest = { 0 };
	struct attach_spec spec = { .guest = &guest, .input = true, .signals = true };
	int c;
	int r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		if (c == 'k')
			spec.detach_keys = optarg;
		spec.input = spec.input && c != 'i';
		spec.signals = spec.signals && c != 's';
	}
	r = exec_check(&verb_attach, &(struct exec_options){ .detach_keys = spec.detach_keys });
	if (r == 0)
		r = find_process(&verb_attach, cli, argc, argv, &guest);
	if (r != 0)
		return r;
	spec.process = argv[optind + 1];
	return exec_attach(&spec);
}

/* A signal by its name, with or without SIG, or by its number: {"signal": …} for the agent. */
static json_t *parse_signal(const char *text)
{
	uint64_t number;
	char name[32];
	int r;

	if (parse_u64(text, 1, (uint64_t)SIGRTMAX, &number) == 0)
		return json_integer((json_int_t)number);
	r = str_fit(name, sizeof(name), "SIGNAL_SIG%s",
		    strncasecmp(text, "SIG", 3) == 0 ? text + 3 : text);
	for (char *p = name; *p != '\0'; p++)
		*p = (char)toupper((unsigned char)*p);
	return r < 0 ? NULL : json_string(name);
}

static int send_signal(struct cli *cli, const struct guest *g, const char *process, json_t *signal)
{
	auto_json *request = json_pack("{s:o, s:O, s:b}", "process", guest_selector(process),
				       "signal", signal, "group", 1);
	struct op op;

	op_init(&op, CALL_TIMEOUT_MS, cli->signal_fd);
	return guest_call(g, "SendSignal", request, NULL, &op) < 0 ? cli_fail(cli, &op, EXIT_FAILED)
								   : EXIT_OK;
}

static int run_kill(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "signal", required_argument, NULL, 's' },
						 { 0 } };
	auto_guest guest = { 0 };
	auto_json *signal = json_string("SIGNAL_SIGTERM");
	int c;
	int r;

	while ((c = getopt_long(argc, argv, "s:", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		json_decref(signal);
		signal = parse_signal(optarg);
		if (signal == NULL)
			return cli_usage(&verb_kill, "--signal %s: say a name or number of one",
					 optarg);
	}
	r = find_process(&verb_kill, cli, argc, argv, &guest);
	if (r != 0)
		return r == EXIT_VIV ? EXIT_FAILED : r;
	return send_signal(cli, &guest, argv[optind + 1], signal);
}

static int run_wait(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { 0 } };
	auto_guest guest = { 0 };
	int r;

	if (getopt_long(argc, argv, "", options, NULL) != -1)
		return EXIT_USAGE;
	r = find_process(&verb_wait, cli, argc, argv, &guest);
	return r != 0 ? r : exec_wait(&guest, argv[optind + 1]);
}

const struct verb verb_ps = {
	.name = "ps",
	.usage = "[--json] SANDBOX",
	.summary = "List the processes of a sandbox that exec and API clients started",
	.help = "  --json  as JSON\n",
	.run = run_ps,
};

const struct verb verb_attach = {
	.name = "attach",
	.usage = "[--no-stdin] [--no-signals] [--detach-keys KEYS] SANDBOX PID|TAG",
	.summary = "Join a process: its output, its input, its terminal",
	.help = "  --no-stdin         do not pass stdin on\n"
		"  --no-signals       a signal ends viv, not the process\n"
		"  --detach-keys KEYS  what leaves the terminal (ctrl-p,ctrl-q)\n",
	.run = run_attach,
};

const struct verb verb_kill = {
	.name = "kill",
	.usage = "[--signal SIGNAL] SANDBOX PID|TAG",
	.summary = "Send a signal to a process and its group",
	.help = "  -s, --signal SIGNAL  name or number (TERM)\n",
	.run = run_kill,
};

const struct verb verb_wait = {
	.name = "wait",
	.usage = "SANDBOX PID|TAG",
	.summary = "Wait until a process has ended, and end with its exit code",
	.help = "",
	.run = run_wait,
};
