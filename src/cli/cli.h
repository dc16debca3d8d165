/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line: one file per verb, a table of verbs in main.c. It speaks the daemon's HTTP API
 * over the unix socket and nothing else.
 */
#pragma once

#include "base/json.h"
#include "base/op.h"
#include "cli/text.h"
#include "http/client.h"

/* Exit codes: a command's own is passed on; these are viv's. */
enum {
	EXIT_OK = 0,
	EXIT_FAILED = 1,
	EXIT_USAGE = 2,
	EXIT_VIV = 125, /* viv or vivd failed before the command could run */
	EXIT_NOT_EXECUTABLE = 126,
	EXIT_NOT_FOUND = 127,
	EXIT_SIGNAL_BASE = 128,
};

struct cli {
	const char *socket;  /* path of vivd's socket */
	const char *run_dir; /* its directory, where a vivd that we start logs */
	bool socket_given;   /* by --socket or VIVARIUM_SOCKET: do not start a vivd for it */
	int signal_fd;       /* SIGINT, SIGTERM, SIGHUP, SIGQUIT; ends every wait */
	struct http_client client;
};

struct verb {
	const char *name;
	const char *usage;   /* after "viv <name> " */
	const char *summary; /* one line */
	const char *help;    /* options, one a line; may be "" */
	int (*run)(struct cli *cli, int argc,
		   char **argv); /* argv[0] is "viv VERB"; returns an exit code */
};

extern const struct verb verb_run, verb_create, verb_exec, verb_ls, verb_inspect, verb_rm,
	verb_logs, verb_version, verb_doctor, verb_df, verb_prune, verb_key, verb_network,
	verb_stats, verb_top, verb_shell, verb_ps, verb_attach, verb_kill, verb_wait, verb_cp,
	verb_port, verb_checkpoint, verb_checkpoints, verb_rollback, verb_fork, verb_template,
	verb_pause, verb_resume, verb_stop, verb_start, verb_restart, verb_snapshot, verb_events,
	verb_flatten, verb_webhook, verb_set;

/** cli_connect() - connect to vivd, starting it when it is not running. Return: 0; -errno, op->err
 * set */
must_check int cli_connect(struct cli *cli, struct op *op);

/** cli_denied() - set op->err: the socket is not for this user. Return: -errno */
int cli_denied(const struct cli *cli, struct op *op);

/** cli_vivd_path() - the vivd beside this viv (a build tree, an installation), else the installed
 * one */
void cli_vivd_path(char *out, size_t size);

/** cli_still_open() - whether a connection takes a further request: vivd closes idle ones */
bool cli_still_open(const struct http_client *c);

/**
 * cli_call() - one request to vivd
 * @target:	borrowed; NULL = op->err says why there is none, as after cli_target()
 * @body:	borrowed; NULL = none
 * @out:	the reply's JSON, new reference; NULL when it has none; may be NULL
 *
 * Return: 0 the status was 2xx; -errno with op->err set: vivd's message, or why it is out of reach.
 */
must_check int cli_call(struct cli *cli, const char *method, const char *target, const json_t *body,
			json_t **out, struct op *op);

/**
 * cli_target() - the target of what has a name
 * @folder:	"/templates/"
 * @rest:	behind the name; "" = nothing
 * @kind:	what it is called for people
 *
 * Return: caller frees it; NULL with op->err set: nothing can have this name.
 */
char *cli_target(const char *folder, const char *name, const char *rest, const char *kind,
		 struct op *op);

/** cli_get_text() - GET a text; caller frees *@out. Return: 0; -errno with op->err set */
must_check int cli_get_text(struct cli *cli, const char *target, char **out, struct op *op);

/** cli_find() - the detail of a sandbox by name, id or prefix; new reference. Return: 0; -errno */
must_check int cli_find(struct cli *cli, const char *name, json_t **out, struct op *op);

/** cli_sandbox_target() - "/sandboxes/<id><rest>" of the sandbox that @name, an id or a prefix
 * means; as cli_target() */
char *cli_sandbox_target(struct cli *cli, const char *name, const char *rest, struct op *op);

/**
 * cli_list() - all sandboxes, newest first
 * @query:	parameters of the list, "" = none
 * @all:	an array, to which all pages are added
 *
 * Return: 0; -errno with op->err set.
 */
must_check int cli_list(struct cli *cli, const char *query, json_t *all, struct op *op);

/** cli_pages() - as cli_list(), of any list that comes in pages
 * @first:	target of its first page, with a '?' in it */
must_check int cli_pages(struct cli *cli, const char *first, json_t *all, struct op *op);

/** cli_print_json() - print what --json is for. Return: EXIT_OK */
int cli_print_json(const json_t *o);

/** cli_take_json() - read the options of a verb that has --json alone; optind is behind them.
 * Return: whether that was all; if not, it was said */
must_check bool cli_take_json(int argc, char **argv, bool *out_json);

/** cli_fail() - print "viv: <message>" for an error. Return: @code, or 128 + the signal that ended
 * it */
int cli_fail(struct cli *cli, const struct op *op, int code);

/** cli_usage() - print what is wrong and how the verb is used. Return: EXIT_USAGE */
int cli_usage(const struct verb *verb, const char *fmt, ...) printf_like(2, 3);

/** json_text() - a string member, "" when absent */
const char *json_text(const json_t *o, const char *key);

/** json_number() - an integer member, 0 when absent */
json_int_t json_number(const json_t *o, const char *key);

/** json_bytes(), json_mib() - a member that counts bytes, or MiB: in bytes, 0 when absent */
uint64_t json_bytes(const json_t *o, const char *key);
uint64_t json_mib(const json_t *o, const char *key);
