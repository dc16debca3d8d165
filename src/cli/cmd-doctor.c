/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viv doctor: what this host has and lacks, and what is left on it. A vivd that runs is asked,
 * since it alone knows what belongs to its sandboxes; otherwise `vivd doctor` looks, and no daemon
 * is started. Both know how the report looks, and how grave it is.
 */
#include "base/fd.h"
#include "base/str.h"
#include "cli/cli.h"
#include "os/spawn.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { REPORT_MAX_BYTES = 8 << 20, EXIT_MISSING = 1, EXIT_LEAKS = 3 };

struct wish {
	bool json;
	bool fix;
	bool delete_data;
};

static int exit_code_of(const char *verdict)
{
	if (verdict != NULL && streq(verdict, "missing"))
		return EXIT_MISSING;
	return verdict != NULL && streq(verdict, "leak") ? EXIT_LEAKS : EXIT_OK;
}

static void print(struct buf *report, bool json)
{
	auto_json *o = json ? json_loadb(buf_str(report), report->len, 0, NULL) : NULL;

	if (o != NULL) {
		cli_print_json(o);
	} else {
		fputs(buf_str(report), stdout);
	}
}

/* What a refusal says in its body. */
static int refused(int status, struct buf *body, struct op *op)
{
	auto_json *o = json_loadb(buf_str(body), body->len, 0, NULL);
	const char *message = json_text(o, "message");

	return err_set(&op->err, ERR_SYSTEM, "%s (status %d)",
		       message[0] != '\0' ? message : "vivd cannot look", status);
}

/* Return: an exit code; -errno with op->err set. */
static int ask_vivd(struct cli *cli, const struct wish *w, struct op *op)
{
	const struct http_field fields[] = {
		{ "Accept", w->json ? "application/json" : "text/plain" },
		{ "Content-Type", "application/json" },
		{ NULL, NULL },
	};
	auto_free char *body =
		str_printf("{\"fix\": true, \"delete\": %s}", w->delete_data ? "true" : "false");
	auto_buf report = BUF_INIT(REPORT_MAX_BYTES);
	int status = http_client_call(&cli->client, w->fix ? "POST" : "GET", "/doctor", fields,
				      w->fix ? body : NULL, w->fix ? strlen(body) : 0, &report, op);

	if (status < 0)
		return status;
	if (status != 200)
		return refused(status, &report, op);
	print(&report, w->json);
	return exit_code_of(http_head_get(&cli->client.head, "Vivarium-Verdict"));
}

/* Its streams are ours; a signal of the terminal reaches it too. */
static int run_vivd(const struct wish *w, struct op *op)
{
	static const struct spawn_fd streams[] = { { STDIN_FILENO, STDIN_FILENO },
						   { STDOUT_FILENO, STDOUT_FILENO },
						   { STDERR_FILENO, STDERR_FILENO } };
	char path[PATH_MAX];
	const char *argv[6] = { path, "doctor" };
	struct spawn_spec spec = SPAWN_SPEC_INIT;
	struct process process = PROCESS_INIT;
	size_t n = 2;
	int code = EXIT_VIV;
	int r;

	cli_vivd_path(path, sizeof(path));
	if (w->json)
		argv[n++] = "--json";
	if (w->fix)
		argv[n++] = "--fix";
	if (w->delete_data)
		argv[n++] = "--delete";
	spec.argv = argv;
	spec.envp = (const char *const *)environ;
	spec.fds = streams;
	spec.n_fds = ARRAY_SIZE(streams);
	r = spawn_process(&spec, &process, &op->err);
	if (r < 0)
		return r;
	r = op_wait_fd(op, process.pidfd, POLLIN, -1);
	if (r < 0) {
		fd_close(&process.pidfd);
		return err_errno(&op->err, -r, "wait for vivd doctor");
	}
	r = spawn_reap(&process, &code);
	return r < 0 ? err_errno(&op->err, -r, "end of vivd doctor") : code;
}

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
						 { "fix", no_argument, NULL, 'f' },
						 { "delete", no_argument, NULL, 'd' },
						 { 0 } };
	struct wish w = { .json = false };
	struct op first;
	struct op op;
	int c;
	int r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		w.json = w.json || c == 'j';
		w.fix = w.fix || c == 'f';
		w.delete_data = w.delete_data || c == 'd';
	}
	if (optind < argc)
		return cli_usage(&verb_doctor, "it takes no '%s'", argv[optind]);
	if (w.delete_data && !w.fix)
		return cli_usage(&verb_doctor, "--delete goes with --fix only");
	op_init(&op, 0, cli->signal_fd);
	first = op_child(&op, 0);
	r = http_client_connect_unix(&cli->client, cli->socket, &first);
	if (r == 0)
		r = ask_vivd(cli, &w, &op);
	else if (r == -EACCES)
		r = cli_denied(cli, &op);
	else if ((r == -ENOENT || r == -ECONNREFUSED) && !cli->socket_given)
		r = run_vivd(&w, &op);
	else
		op.err = first.err;
	return r < 0 ? cli_fail(cli, &op, EXIT_VIV) : r;
}

const struct verb verb_doctor = {
	.name = "doctor",
	.usage = "[--json] [--fix [--delete]]",
	.summary = "Look at what this host has and lacks, and at what is left on it",
	.help = "  --json    as JSON\n"
		"  --fix     remove what no sandbox owns: links, namespaces, cgroups, mounts, ...\n"
		"  --delete  with --fix: also data, which a user might miss\n"
		"\n"
		"Exit code: 0 sandboxes work; 1 something that they need is missing; 3 leaks are "
		"left.\n",
	.run = run,
};
