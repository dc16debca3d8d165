/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "base/str.h"
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const struct verb *const verbs[] = {
	&verb_run,      &verb_create,  &verb_exec,       &verb_shell,       &verb_ps,
	&verb_attach,   &verb_kill,    &verb_wait,       &verb_ls,          &verb_inspect,
	&verb_pause,    &verb_resume,  &verb_stop,       &verb_start,       &verb_restart,
	&verb_set,      &verb_rm,      &verb_cp,         &verb_port,        &verb_logs,
	&verb_events,   &verb_webhook, &verb_doctor,     &verb_df,          &verb_prune,
	&verb_key,      &verb_fork,    &verb_checkpoint, &verb_checkpoints, &verb_rollback,
	&verb_snapshot, &verb_flatten, &verb_network,    &verb_stats,       &verb_top,
	&verb_template, &verb_version,
};

static void print_help(FILE *to)
{
	fputs("viv runs programs in microVM sandboxes on this machine.\n\n"
	      "usage: viv [--socket PATH] VERB [OPTIONS] ...\n\n",
	      to);
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++)
		fprintf(to, "  %-11s %s\n", verbs[i]->name, verbs[i]->summary);
	fputs("\n`viv VERB --help` tells more. A sandbox is named by its name, its id, or the "
	      "beginning "
	      "of its id.\n",
	      to);
}

static void print_verb_help(FILE *to, const struct verb *verb)
{
	fprintf(to, "usage: viv %s %s\n\n%s.\n", verb->name, verb->usage, verb->summary);
	if (verb->help[0] != '\0')
		fprintf(to, "\n%s", verb->help);
}

int cli_usage(const struct verb *verb, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "viv %s: ", verb->name);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\nusage: viv %s %s\n", verb->name, verb->usage);
	return EXIT_USAGE;
}

/* Signals come by a descriptor, so that every wait ends with them; writes to a closed pipe fail. */
static int open_signals(void)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGQUIT);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0 || sigaction(SIGPIPE, &ignore, NULL) < 0)
		return -errno;
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* Where vivd listens: --socket, VIVARIUM_SOCKET, VIVARIUM_RUN_DIR, the default. */
static void find_socket(struct cli *cli, const char *option, char *path, size_t size)
{
	const char *socket = option != NULL ? option : getenv("VIVARIUM_SOCKET");
	const char *run_dir = getenv("VIVARIUM_RUN_DIR");

	cli->socket_given = socket != NULL && socket[0] != '\0';
	cli->run_dir = run_dir != NULL && run_dir[0] != '\0' ? run_dir : "/run/vivarium";
	if (cli->socket_given)
		str_copy(path, size, socket);
	else
		snprintf(path, size, "%s/vivd.sock", cli->run_dir);
	cli->socket = path;
}

static const struct verb *find_verb(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(verbs); i++) {
		if (streq(verbs[i]->name, name))
			return verbs[i];
	}
	return NULL;
}

static bool wants_help(int argc, char **argv)
{
	return argc > 1 && (streq(argv[1], "--help") || streq(argv[1], "-h"));
}

static int run_verb(struct cli *cli, int argc, char **argv)
{
	const struct verb *verb = find_verb(argv[0]);
	static char name[32];
	int code;

	if (verb == NULL) {
		fprintf(stderr, "viv: no verb '%s'; `viv --help` lists them\n", argv[0]);
		return EXIT_USAGE;
	}
	if (wants_help(argc, argv)) {
		print_verb_help(stdout, verb);
		return EXIT_OK;
	}
	cli->signal_fd = open_signals();
	if (cli->signal_fd < 0) {
		fprintf(stderr, "viv: set up signals: %s\n", strerror(-cli->signal_fd));
		return EXIT_VIV;
	}
	snprintf(name, sizeof(name), "viv %s", verb->name);
	argv[0] = name; /* which getopt puts before what it complains of */
	optind = 0;     /* getopt starts anew, for the verb */
	code = verb->run(cli, argc, argv);
	if (fflush(stdout) != 0 && code == EXIT_OK) {
		fprintf(stderr, "viv: write to stdout: %s\n", strerror(errno));
		code = EXIT_FAILED;
	}
	http_client_done(&cli->client);
	fd_close(&cli->signal_fd);
	return code;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "socket", required_argument, NULL, 's' },
						 { "help", no_argument, NULL, 'h' },
						 { "version", no_argument, NULL, 'v' },
						 { 0 } };
	static char version_verb[] = "version";
	struct cli cli = { .signal_fd = -1, .client = HTTP_CLIENT_INIT };
	const char *socket = NULL;
	char path[PATH_MAX];
	char *version_argv[] = { version_verb, NULL };
	int c;

	while ((c = getopt_long(argc, argv, "+h", options, NULL)) != -1) {
		if (c == 'h') {
			print_help(stdout);
			return EXIT_OK;
		}
		if (c == '?')
			return EXIT_USAGE;
		if (c == 's')
			socket = optarg;
		if (c == 'v') {
			find_socket(&cli, socket, path, sizeof(path));
			return run_verb(&cli, 1, version_argv);
		}
	}
	if (optind == argc) {
		print_help(stderr);
		return EXIT_USAGE;
	}
	find_socket(&cli, socket, path, sizeof(path));
	return run_verb(&cli, argc - optind, argv + optind);
}
