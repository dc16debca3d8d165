/* SPDX-License-Identifier: Apache-2.0 */
/* viv port: ports of here that lead to a sandbox, or what listens there. */
#include "base/parse.h"
#include "base/str.h"
#include "cli/cli.h"
#include "cli/forward.h"
#include "cli/guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

enum { TABLE_MAX_BYTES = 1 << 20, ADDRESS_HEX = 32, OK_STATUS = 200 };

/* TCP_LISTEN, as the kernel's table has it. */
#define LISTENS "0A"

/* One table of the guest's kernel. */
static int get_table(struct guest *g, const char *path, struct buf *out, struct op *op)
{
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_free char *target = str_printf("/files?username=root&path=%s", path);
	struct guest_fields fields;
	int r = guest_fields_init(&fields, g, "application/json", &op->err);

	if (r == 0)
		r = http_client_connect_unix(&c, g->cli->socket, op);
	if (r == 0)
		r = http_client_call(&c, "GET", target, fields.at, NULL, 0, out, op);
	if (r >= 0 && r != OK_STATUS)
		return err_set(&op->err, ERR_AGENT, "sandbox %s: %s is not to be had (%d)", g->id,
			       path, r);
	return MIN(r, 0);
}

/* The address as the kernel writes it: words of 32 bits in the guest's byte order, as ours. */
static void print_address(const char *hex, uint32_t port)
{
	struct in6_addr addr = { 0 };
	char text[INET6_ADDRSTRLEN];
	size_t words = strlen(hex) / 8;

	for (size_t i = 0; i < words && i < 4; i++) {
		char digits[8 + 1];
		uint32_t word;

		str_copy(digits, sizeof(digits), hex + 8 * i);
		if (parse_hex_u32(digits, &word) < 0)
			return;
		memcpy((char *)&addr + 4 * i, &word, sizeof(word));
	}
	if (inet_ntop(words == 1 ? AF_INET : AF_INET6, &addr, text, sizeof(text)) != NULL)
		printf("%-6u %s\n", port, text);
}

static void print_table(char *table)
{
	char *line;

	while ((line = strsep(&table, "\n")) != NULL) {
		char hex[ADDRESS_HEX + 1];
		char digits[4 + 1];
		char state[2 + 1];
		uint32_t port;

		if (sscanf(line, " %*u: %32[0-9A-F]:%4[0-9A-F] %*[^ ] %2[0-9A-F]", hex, digits,
			   state) == 3 &&
		    streq(state, LISTENS) && parse_hex_u32(digits, &port) == 0)
			print_address(hex, port);
	}
}

static int list(struct cli *cli, const char *sandbox, struct op *op)
{
	static const char *const tables[] = { "/proc/net/tcp", "/proc/net/tcp6" };
	auto_guest g = { 0 };
	int r = guest_find(&g, cli, sandbox, op);

	if (r == 0)
		puts("PORT   ADDRESS");
	for (size_t i = 0; r == 0 && i < ARRAY_SIZE(tables); i++) {
		auto_buf text = BUF_INIT(TABLE_MAX_BYTES);

		r = get_table(&g, tables[i], &text, op);
		if (r == 0) {
			auto_free char *table = buf_steal(&text);

			print_table(table);
		}
	}
	return r;
}

static int forward(struct cli *cli, const char *sandbox, struct forward *f, const char *bind_to,
		   struct op *op)
{
	auto_json *detail = NULL;
	int r = cli_find(cli, sandbox, &detail, op);

	if (r == 0)
		r = forward_listen(f, bind_to, &op->err);
	if (r == 0)
		r = forward_start(f, cli, json_text(detail, "sandboxID"), &op->err);
	for (size_t i = 0; r == 0 && i < f->n; i++)
		printf("%s:%u -> %u\n", f->ports[i].host, f->ports[i].here, f->ports[i].there);
	fflush(stdout);
	if (r == 0)
		r = op_wait_fd(op, -1, 0, -1); /* for a signal */
	forward_stop(f);
	return r < 0 ? err_errno(&op->err, -r, "wait") : r;
}

static int run(struct cli *cli, int argc, char **argv)
{
	static const struct option options[] = { { "bind", required_argument, NULL, 'b' }, { 0 } };
	struct forward f = FORWARD_INIT;
	const char *bind_to = FORWARD_BIND;
	struct op op;
	int c;
	int r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (c == '?')
			return EXIT_USAGE;
		bind_to = optarg;
	}
	if (optind == argc)
		return cli_usage(&verb_port, "say which sandbox");
	for (int i = optind + 1; i < argc; i++) {
		if (forward_add(&f, argv[i]) < 0)
			return cli_usage(&verb_port, "'%s' is no [[ADDRESS:]HERE:]PORT", argv[i]);
	}
	op_init(&op, 0, cli->signal_fd);
	r = f.n == 0 ? list(cli, argv[optind], &op) : forward(cli, argv[optind], &f, bind_to, &op);
	return r < 0 ? cli_fail(cli, &op, EXIT_FAILED) : EXIT_OK;
}

const struct verb verb_port = {
	.name = "port",
	.usage = "[--bind ADDRESS] SANDBOX [[[ADDRESS:]HERE:]PORT]...",
	.summary = "Reach ports of a sandbox from here, or list them",
	.help = "  --bind ADDRESS  where to listen (127.0.0.1)\n",
	.run = run,
};
