/* SPDX-License-Identifier: Apache-2.0 */
/* viv version: of viv, and of vivd and what it uses if it runs. */
#include "base/str.h"
#include "cli/cli.h"
#include "viv-config.h"

#include <getopt.h>
#include <stdio.h>

/* Only asks: `viv version` starts no daemon. */
static json_t *ask(struct cli *cli)
{
	auto_http_client c = HTTP_CLIENT_INIT;
	auto_buf reply = BUF_INIT(65536);
	struct op op;

	op_init(&op, 2000, cli->signal_fd);
	if (http_client_connect_unix(&c, cli->socket, &op) < 0 ||
	    http_client_call(&c, "GET", "/version", NULL, NULL, 0, &reply, &op) != 200)
		return NULL;
	return json_loadb(buf_str(&reply), reply.len, 0, NULL);
}

static void print_server(json_t *all)
{
	static const char *const keys[] = { "vivd", "vmm", "vmmVersion", "kernel" };
	const char *accel = json_string_value(json_object_get(all, "acceleration"));
	const char *reason = json_string_value(json_object_get(all, "accelerationReason"));

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		const char *value = json_string_value(json_object_get(all, keys[i]));

		if (value != NULL)
			printf("%-12s %s\n", keys[i], value);
	}
	if (accel != NULL && reason != NULL)
		printf("%-12s %s: %s\n", "acceleration", accel, reason);
}

static int run(struct cli *cli, int argc, char **argv)
{
	auto_json *all = NULL;
	bool json = false;

	if (!cli_take_json(argc, argv, &json))
		return EXIT_USAGE;
	if (optind < argc)
		return cli_usage(&verb_version, "it takes no '%s'", argv[optind]);
	all = ask(cli);
	if (json) {
		auto_json *o = json_pack("{s:s, s:O?}", "viv", VIV_VERSION, "server", all);

		return cli_print_json(o);
	}
	printf("%-12s %s\n", "viv", VIV_VERSION);
	if (all == NULL)
		printf("%-12s %s\n", "vivd", "not running");
	print_server(all);
	return EXIT_OK;
}

const struct verb verb_version = {
	.name = "version",
	.usage = "[--json]",
	.summary = "Show the versions of viv, vivd, VMM and kernel",
	.help = "  --json  as JSON\n",
	.run = run,
};
