/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viv-hook: the part of vivd that posts events to webhooks, in a process of its own that is there
 * while there is something to post. It speaks with strangers, as nobody, with neither a secret nor
 * the store. vivd starts it; nobody else does.
 */
#include "base/str.h"
#include "hook/serve.h"
#include "viv-config.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char usage[] = "Usage:\n"
			    "  viv-hook serve    as vivd starts it\n"
			    "  viv-hook --help | --version\n";

int main(int argc, char **argv)
{
	struct err e = { 0 };
	int r;

	if (argc == 2 && (streq(argv[1], "--help") || streq(argv[1], "-h"))) {
		fputs(usage, stdout);
		return 0;
	}
	if (argc == 2 && streq(argv[1], "--version")) {
		printf("viv-hook %s\n", VIV_VERSION);
		return 0;
	}
	if (argc == 2 && streq(argv[1], "serve"))
		r = hook_serve(&e);
	else
		r = err_set(&e, ERR_INVALID, "vivd starts this program; see vivd(8)");
	if (r < 0)
		fprintf(stderr, "viv-hook: %s\n", err_is_set(&e) ? e.msg : "vivd is gone");
	fflush(stderr);
	_exit(r < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}
