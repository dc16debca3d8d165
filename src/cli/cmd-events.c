/* SPDX-License-Identifier: Apache-2.0 */
/* viv events: what befell sandboxes, as a list or as it comes. */
#include "base/str.h"
#include "cli/cli.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { LINES_MAX_BYTES = 1 << 20, PAGE = 1000, OK_STATUS = 200 };

struct wish {
	const char *after;   /* id; NULL = not said */
	char last[24];       /* what @after points to behind the first page */
	const char *sandbox; /* name or id; NULL = all */
	bool follow;
	bool json;
};

static void print_event(const json_t *event, bool json)
{
	const char *name = json_text(event, "name");
	const char *cause = json_text(event, "cause");
	auto_free char *error = plain_text(json_text(event, "error"));
	json_int_t generation = json_number(event, "generation");

	if (json) {
		json_dumpf(event, stdout, JSON_COMPACT);
		putchar('\n');
		return;
	}
	printf("%6lld  %.19s  %-12s  %-20s  %-16s", (long long)json_number(event, "id"),
	       json_text(event, "timestamp"), json_text(event, "type"),
	       json_text(event, "sandboxID"), name[0] != '\0' ? name : "-");
	if (generation > 0)
		printf("  generation %lld", (long long)generation);
	if (streq(cause, "timeout"))
		fputs("  by its timeout", stdout);
	else if (streq(cause, "idle"))
		fputs("  by its idle timeout", stdout);
	else if (streq(cause, "restart"))
		fputs("  by its restart policy", stdout);
	else if (cause[0] != '\0')
		printf("  (%s)", cause);
	if (error[0] != '\0') /* behind the first line are the console's last ones */
		printf("  %.*s", (int)strcspn(error, "\n"), error);
	putchar('\n');
}

/* The request's target; NULL: a word is none that could be meant. */
static char *target_of(const struct wish *w, unsigned limit)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyz0123456789_.-";
	const char *sandbox = w->sandbox != NULL ? w->sandbox : "";
	const char *after = w->after != NULL ? w->after : "";

	if (strspn(sandbox, plain) != strlen(sandbox) ||
	    strspn(after, "0123456789") != strlen(after))
		return NULL;
	return str_printf("/events?limit=%u%s%s%s%s", limit, w->after != NULL ? "&after=" : "",
			  after, w->sandbox != NULL ? "&sandbox=" : "", sandbox);
}

/* All that are kept, page after page. */
static int list(struct cli *cli, struct wish *w, struct op *op)
{
	for (;;) {
		auto_free char *target = target_of(w, PAGE);
		auto_json *page = NULL;
		const json_t *event = NULL;
		size_t i;
		int r = cli_call(cli, "GET", target, NULL, &page, op);

		if (r < 0 || json_array_size(page) == 0)
			return r;
		json_array_foreach(page, i, event) print_event(event, w->json);
		ignore_err(str_fit(w->last, sizeof(w->last), "%lld", /* any number fits */
				   (long long)json_number(event, "id")));
		w->after = w->last;
		if (fflush(stdout) != 0)
			return -errno;
		if (json_array_size(page) < PAGE)
			return 0;
	}
}

/* Prints the whole lines of what has arrived; of server-sent events only the data counts here. */
static void print_lines(struct buf *in, bool json)
{
	static const char field[] = "data: ";
	const char *end;

	while (in->len > 0 && (end = memchr(buf_head(in), '\n', in->len)) != NULL) {
		size_t n = (size_t)(end - buf_head(in));

		if (n > strlen(field) && memcmp(buf_head(in), field, strlen(field)) == 0) {
			auto_json *event = json_loadb(buf_head(in) + strlen(field),
						      n - strlen(field), 0, NULL);

			print_event(event, json);
		}
		buf_consume(in, n + 1);
	}
	fflush(stdout);
}

static int follow(struct cli *cli, const struct wish *w, struct op *op)
{
	static const struct http_field fields[] = { { "Accept", "text/event-stream" },
						    { NULL, NULL } };
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_buf in = BUF_INIT(LINES_MAX_BYTES);
	auto_free char *target = target_of(w, 1);
	ssize_t n = cli_call(cli, "GET", target, NULL, NULL, op); /* it says what is wrong */

	if (n == 0)
		n = http_client_connect_unix(&c, cli->socket, op);
	if (n == 0)
		n = http_client_send(&c, "GET", target, fields, NULL, 0, op);
	if (n == 0)
		n = http_client_head(&c, op);
	if (n == 0 && c.head.status != OK_STATUS)
		n = err_set(&op->err, ERR_SYSTEM, "vivd serves no stream of events (status %d)",
			    c.head.status);
	while (n == 0 && (n = http_client_read(&c, &in, op)) > 0) {
		print_lines(&in, w->json);
		n = ferror(stdout) != 0 ? -EPIPE : 0;
	}
	return n < 0 ? (int)n : err_set(&op->err, ERR_SYSTEM, "vivd has ended");
}

static int read_options(struct wish *w, int argc, char **argv)
{
	static const struct option options[] = { { "after", required_argument, NULL, 'a' },
						 { "follow", no_argument, NULL, 'f' },
						 { "json", no_argument, NULL, 'j' },
						 { 0 } };
	int c;

	while ((c = getopt_long(argc, argv, "f", options, NULL)) != -1) {
		if (c == '?')
			return -EINVAL;
		if (c == 'a')
			w->after = optarg;
		w->follow = w->follow || c == 'f';
		w->json = w->json || c == 'j';
	}
	if (optind < argc)
		w->sandbox = argv[optind++];
	return 0;
}

static int run(struct cli *cli, int argc, char **argv)
{
	struct wish w = { .after = NULL };
	auto_free char *target = NULL;
	struct op op;
	int r;

	if (read_options(&w, argc, argv) < 0)
		return EXIT_USAGE;
	if (optind < argc)
		return cli_usage(&verb_events, "it takes no '%s'", argv[optind]);
	target = target_of(&w, 1);
	if (target == NULL)
		return cli_usage(&verb_events, "that is no sandbox, or no id of an event");
	op_init(&op, 0, cli->signal_fd);
	r = w.follow ? follow(cli, &w, &op) : list(cli, &w, &op);
	return r < 0 ? cli_fail(cli, &op, EXIT_FAILED) : EXIT_OK;
}

const struct verb verb_events = {
	.name = "events",
	.usage = "[-f] [--json] [--after ID] [SANDBOX]",
	.summary = "Show what befell sandboxes",
	.help = "  -f, --follow  what comes from now on, or after ID, until Ctrl-C\n"
		"  --after ID    only what came after this event\n"
		"  --json        as JSON, one a line\n"
		"\n"
		"Events are kept for 7 days. A sandbox that is gone still has them, by its id.\n",
	.run = run,
};
