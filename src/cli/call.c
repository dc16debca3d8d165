/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to vivd, and what a person is told when they fail. */
#include "base/str.h"
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

enum { REPLY_MAX_BYTES = 64 << 20, NAME_MAX_BYTES = 200 };

const char *json_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

json_int_t json_number(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

uint64_t json_bytes(const json_t *o, const char *key)
{
	return (uint64_t)MAX(json_number(o, key), 0);
}

uint64_t json_mib(const json_t *o, const char *key)
{
	return json_bytes(o, key) << 20;
}

/* vivd's own words for what went wrong. */
static int refused(int status, struct buf *reply, struct op *op)
{
	auto_json *o = json_loadb(buf_str(reply), reply->len, 0, NULL);
	const char *message = json_text(o, "message");
	enum err_kind kind = status == 404 ? ERR_NOT_FOUND : ERR_SYSTEM;

	if (message[0] == '\0')
		return err_set(&op->err, kind, "vivd answered %d", status);
	return err_set(&op->err, kind, "%s", message);
}

static int call(struct cli *cli, const char *method, const char *target, const json_t *body,
		struct buf *reply, struct op *op)
{
	static const struct http_field json_type[] = { { "Content-Type", "application/json" },
						       { NULL, NULL } };
	auto_free char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT);
	int r = target != NULL ? cli_connect(cli, op) : -ENOENT;

	if (r < 0)
		return r;
	r = http_client_call(&cli->client, method, target, body != NULL ? json_type : NULL, text,
			     text != NULL ? strlen(text) : 0, reply, op);
	if (r < 0)
		return r;
	return r >= 200 && r < 300 ? 0 : refused(r, reply, op);
}

int cli_call(struct cli *cli, const char *method, const char *target, const json_t *body,
	     json_t **out, struct op *op)
{
	auto_buf reply = BUF_INIT(REPLY_MAX_BYTES);
	int r = call(cli, method, target, body, &reply, op);

	if (r == 0 && out != NULL) {
		*out = json_loadb(buf_str(&reply), reply.len, 0, NULL);
		if (*out == NULL)
			return err_set(&op->err, ERR_SYSTEM, "vivd's answer to %s %s is not JSON",
				       method, target);
	}
	return r;
}

int cli_get_text(struct cli *cli, const char *target, char **out, struct op *op)
{
	auto_buf reply = BUF_INIT(REPLY_MAX_BYTES);
	int r = call(cli, "GET", target, NULL, &reply, op);

	if (r == 0)
		*out = buf_steal(&reply);
	return r;
}

/* No character of a name or id means anything in a path; others name nothing. */
char *cli_target(const char *folder, const char *name, const char *rest, const char *kind,
		 struct op *op)
{
	size_t n = strlen(name);

	if (n > 0 && n <= NAME_MAX_BYTES &&
	    strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-:") == n)
		return str_printf("%s%s%s", folder, name, rest);
	err_set(&op->err, ERR_NOT_FOUND, "no %s '%.*s'", kind, NAME_MAX_BYTES, name);
	return NULL;
}

int cli_find(struct cli *cli, const char *name, json_t **out, struct op *op)
{
	auto_free char *target = cli_target("/sandboxes/", name, "", "sandbox", op);

	return cli_call(cli, "GET", target, NULL, out, op);
}

char *cli_sandbox_target(struct cli *cli, const char *name, const char *rest, struct op *op)
{
	auto_json *detail = NULL;

	if (cli_find(cli, name, &detail, op) < 0)
		return NULL;
	return str_printf("/sandboxes/%s%s", json_text(detail, "sandboxID"), rest);
}

int cli_list(struct cli *cli, const char *query, json_t *all, struct op *op)
{
	auto_free char *target = str_printf("/v2/sandboxes?%s", query);

	return cli_pages(cli, target, all, op);
}

int cli_pages(struct cli *cli, const char *first, json_t *all, struct op *op)
{
	auto_free char *token = str_dup("");

	for (;;) {
		auto_free char *target =
			str_printf("%s%s%s", first, token[0] != '\0' ? "&nextToken=" : "", token);
		auto_json *page = NULL;
		const char *next;
		int r = cli_call(cli, "GET", target, NULL, &page, op);

		if (r < 0)
			return r;
		json_array_extend(all, page);
		next = http_head_get(&cli->client.head, "X-Next-Token");
		if (next == NULL)
			return 0;
		free(token);
		token = str_dup(next);
	}
}

int cli_print_json(const json_t *o)
{
	json_dumpf(o, stdout, JSON_INDENT(2));
	putchar('\n');
	return EXIT_OK;
}

bool cli_take_json(int argc, char **argv, bool *out_json)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' }, { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return false;
		*out_json = true;
	}
	return true;
}

int cli_fail(struct cli *cli, const struct op *op, int code)
{
	auto_free char *message = plain_text(op->err.msg);
	struct signalfd_siginfo info;

	if (op->err.kind == ERR_CANCELLED &&
	    read(cli->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
		return EXIT_SIGNAL_BASE + (int)info.ssi_signo;
	fprintf(stderr, "viv: %s\n", message);
	return code;
}
