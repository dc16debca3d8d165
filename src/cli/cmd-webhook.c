/* SPDX-License-Identifier: Apache-2.0 */
/* viv webhook: where events are posted to. */
#include "base/buf.h"
#include "base/file.h"
#include "base/str.h"
#include "cli/each.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { SECRET_MAX = 257 }; /* bytes that vivd takes, and a newline */

struct wish {
	json_t *body; /* owned: of add */
	const char *secret_file;
	bool adds; /* an option of add was said */
	bool json;
};

static void wish_done(struct wish *w)
{
	json_decref(w->body);
}

/* Return: whether it is UTF-8. */
static bool set_text(struct wish *w, const char *key, const char *text)
{
	return json_object_set_new(w->body, key, json_string(text)) == 0;
}

/* "killed", or E2B's whole name of it. */
static bool add_event(struct wish *w, const char *kind)
{
	static const char prefix[] = "sandbox.lifecycle.";
	auto_free char *type = str_printf("%s%s", strchr(kind, '.') != NULL ? "" : prefix, kind);
	json_t *list = json_object_get(w->body, "events");

	if (list == NULL) {
		list = json_array();
		if (json_object_set_new(w->body, "events", list) < 0)
			return false;
	}
	return json_array_append_new(list, json_string(type)) == 0;
}

/* Return: 0; an exit code, after saying why. */
static int take_option(struct wish *w, int c)
{
	bool good = true;

	w->json = w->json || c == 'j';
	w->adds = w->adds || c != 'j';
	if (c == 'n')
		good = set_text(w, "name", optarg);
	if (c == 'e')
		good = add_event(w, optarg);
	if (c == 's')
		w->secret_file = optarg;
	if (c == 'd')
		good = json_object_set_new(w->body, "enabled", json_false()) == 0;
	return good ? 0 : cli_usage(&verb_webhook, "'%s' is not UTF-8", optarg);
}

static int parse(int argc, char **argv, struct wish *w)
{
	static const struct option options[] = { { "name", required_argument, NULL, 'n' },
						 { "event", required_argument, NULL, 'e' },
						 { "secret-file", required_argument, NULL, 's' },
						 { "disabled", no_argument, NULL, 'd' },
						 { "json", no_argument, NULL, 'j' },
						 { 0 } };
	int r = 0;
	int c;

	w->body = json_object();
	while (r == 0 && (c = getopt_long(argc, argv, "", options, NULL)) != -1)
		r = c == '?' ? EXIT_USAGE : take_option(w, c);
	return r;
}

/* The secret without its newline, from a file or stdin. */
static int take_secret(struct wish *w, struct op *op)
{
	const char *path = streq(w->secret_file, "-") ? "/dev/stdin" : w->secret_file;
	auto_buf secret = BUF_INIT(SECRET_MAX);
	int r = file_read_at(AT_FDCWD, path, &secret);

	if (r == -EMSGSIZE)
		return err_set(&op->err, ERR_INVALID, "%s: a secret has %d bytes at most", path,
			       SECRET_MAX - 1);
	if (r < 0)
		return err_errno(&op->err, -r, "read %s", path);
	if (secret.len > 0 && buf_head(&secret)[secret.len - 1] == '\n')
		secret.len--;
	if (json_object_set_new(w->body, "signatureSecret",
				json_stringn(buf_str(&secret), secret.len)) < 0)
		return err_set(&op->err, ERR_INVALID, "%s: the secret is not UTF-8", path);
	return 0;
}

static int run_add(struct cli *cli, struct wish *w, int argc, char **argv)
{
	auto_json *hook = NULL;
	struct op op;

	if (argc != 2)
		return cli_usage(&verb_webhook, "say one URL");
	if (!set_text(w, "url", argv[1]))
		return cli_usage(&verb_webhook, "the URL is not UTF-8");
	op_init(&op, 0, cli->signal_fd);
	if (w->secret_file != NULL && take_secret(w, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (cli_call(cli, "POST", "/events/webhooks", w->body, &hook, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (w->json)
		return cli_print_json(hook);
	puts(json_text(hook, "id"));
	if (w->secret_file == NULL)
		fprintf(stderr, "viv: its secret is %s; keep it, it is not shown again\n",
			json_text(hook, "signatureSecret"));
	return EXIT_OK;
}

/* "active", "disabled", "behind": events wait for it; "failing": and the last try failed. */
static const char *state_of(const json_t *hook)
{
	const json_t *own = json_object_get(hook, "vivarium");
	const char *failed = json_text(own, "failedAt");

	if (json_is_false(json_object_get(hook, "enabled")))
		return "disabled";
	if (json_number(own, "waiting") == 0)
		return "active";
	/* RFC 3339 in one zone: text order is time order */
	return strcmp(failed, json_text(own, "deliveredAt")) > 0 ? "failing" : "behind";
}

static int run_ls(struct cli *cli, bool json, int argc)
{
	auto_json *hooks = NULL;
	struct op op;
	const json_t *hook;
	size_t i;

	if (argc > 1)
		return cli_usage(&verb_webhook, "ls takes no argument");
	op_init(&op, 0, cli->signal_fd);
	if (cli_call(cli, "GET", "/events/webhooks", NULL, &hooks, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	if (json)
		return cli_print_json(hooks);
	printf("%-13s  %-16s  %-8s  %9s  %7s  %s\n", "ID", "NAME", "STATE", "DELIVERED", "WAITING",
	       "URL");
	json_array_foreach(hooks, i, hook)
	{
		const json_t *own = json_object_get(hook, "vivarium");
		const char *name = json_text(hook, "name");

		printf("%-13s  %-16s  %-8s  %9lld  %7lld  %s\n", json_text(hook, "id"),
		       name[0] != '\0' ? name : "-", state_of(hook),
		       (long long)json_number(own, "delivered"),
		       (long long)json_number(own, "waiting"), json_text(hook, "url"));
	}
	return EXIT_OK;
}

/* The id of the one that @name, an id or a name, means. */
static int find(struct cli *cli, const char *name, char **out_id, struct op *op)
{
	auto_json *hooks = NULL;
	const json_t *hook;
	const char *id = NULL;
	size_t i;

	if (cli_call(cli, "GET", "/events/webhooks", NULL, &hooks, op) < 0)
		return -EIO;
	json_array_foreach(hooks, i, hook)
	{
		bool is_id = streq(json_text(hook, "id"), name);

		if (!is_id && (name[0] == '\0' || !streq(json_text(hook, "name"), name)))
			continue;
		if (!is_id && id != NULL)
			return err_set(&op->err, ERR_CONFLICT,
				       "several webhooks are named '%s': say an id", name);
		id = json_text(hook, "id");
		if (is_id)
			break;
	}
	if (id == NULL)
		return err_set(&op->err, ERR_NOT_FOUND, "no webhook '%s'", name);
	*out_id = str_dup(id);
	return 0;
}

/* What enable, disable and rm do with each; @arg is the body of a change, NULL of rm. */
static int change_one(struct cli *cli, const char *name, const void *arg, struct op *op)
{
	auto_free char *id = NULL;
	auto_free char *target = NULL;
	int r = find(cli, name, &id, op);

	if (r < 0)
		return r;
	target = str_printf("/events/webhooks/%s", id);
	r = cli_call(cli, arg != NULL ? "PATCH" : "DELETE", target, arg, NULL, op);
	if (r == 0)
		puts(name);
	return r;
}

static int run_inspect(struct cli *cli, int argc, char **argv)
{
	auto_free char *id = NULL;
	auto_free char *target = NULL;
	auto_json *hook = NULL;
	struct op op;

	if (argc != 2)
		return cli_usage(&verb_webhook, "say which webhook");
	op_init(&op, 0, cli->signal_fd);
	if (find(cli, argv[1], &id, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	target = str_printf("/events/webhooks/%s", id);
	if (cli_call(cli, "GET", target, NULL, &hook, &op) < 0)
		return cli_fail(cli, &op, EXIT_FAILED);
	return cli_print_json(hook);
}

static int run_each(struct cli *cli, const char *what, int argc, char **argv)
{
	auto_json *change = json_pack("{s:b}", "enabled", streq(what, "enable"));

	if (argc < 2)
		return cli_usage(&verb_webhook, "say which webhooks");
	return each_name(cli, argv + 1, change_one, streq(what, "rm") ? NULL : change);
}

static int run(struct cli *cli, int argc, char **argv)
{
	cleanup(wish_done) struct wish w = { .json = false };
	int code = parse(argc, argv, &w);
	const char *what;

	if (code != 0)
		return code;
	argc -= optind;
	argv += optind;
	what = argc > 0 ? argv[0] : "";
	if (w.adds && !streq(what, "add"))
		return cli_usage(&verb_webhook, "all options but --json are of add");
	if (w.json && !streq(what, "add") && !streq(what, "ls"))
		return cli_usage(&verb_webhook, "--json is for add and ls");
	if (streq(what, "add"))
		return run_add(cli, &w, argc, argv);
	if (streq(what, "ls"))
		return run_ls(cli, w.json, argc);
	if (streq(what, "inspect"))
		return run_inspect(cli, argc, argv);
	if (streq(what, "enable") || streq(what, "disable") || streq(what, "rm"))
		return run_each(cli, what, argc, argv);
	return cli_usage(&verb_webhook, "say add, ls, inspect, enable, disable or rm");
}

const struct verb verb_webhook = {
	.name = "webhook",
	.usage = "add [OPTIONS] URL | ls [--json] | inspect WEBHOOK\n"
		 "           | enable WEBHOOK... | disable WEBHOOK... | rm WEBHOOK...",
	.summary = "Have events posted to a URL",
	.help = "  --name NAME      of add: what people call it\n"
		"  --event KIND     of add: only events of this kind; may be said several times\n"
		"  --secret-file F  of add: the secret is in this file; \"-\" = stdin\n"
		"  --disabled       of add: nothing is posted until it is enabled\n"
		"  --json           of add and ls: as JSON\n",
	.run = run,
};
