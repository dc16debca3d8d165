/* SPDX-License-Identifier: Apache-2.0 */
/* viv-build: what `vivd prepare` runs. */
#include "base/parse.h"
#include "base/str.h"
#include "build/prepare.h"
#include "viv-config.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

static const uint64_t FREE_MIB_MAX = 1024 * 1024;

static const char usage[] =
	"usage: viv-build --state-dir=DIR [--root-free-mib=N] [--force]\n"
	"\n"
	"Gets a state directory its guest kernel and base template; vivd(8) runs it as\n"
	"\"vivd prepare\".\n"
	"\n"
	"  --state-dir=DIR     where to\n"
	"  --root-free-mib=N   room in the template's file system, MiB (default 512)\n"
	"  --force             get and make both anew\n"
	"  --help, --version\n";

enum { OPTION_STATE_DIR = 256, OPTION_FREE, OPTION_FORCE, OPTION_HELP, OPTION_VERSION };

/* Return: 0; 1 answered, nothing is to be done; -EINVAL with @e set, or after getopt said why. */
static int parse(int argc, char **argv, struct prepare_spec *spec, struct err *e)
{
	static const struct option options[] = {
		{ "state-dir", required_argument, NULL, OPTION_STATE_DIR },
		{ "root-free-mib", required_argument, NULL, OPTION_FREE },
		{ "force", no_argument, NULL, OPTION_FORCE },
		{ "help", no_argument, NULL, OPTION_HELP },
		{ "version", no_argument, NULL, OPTION_VERSION },
		{ NULL },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == OPTION_HELP || option == OPTION_VERSION) {
			printf("%s", option == OPTION_HELP ? usage : "viv-build " VIV_VERSION "\n");
			return 1;
		} else if (option == OPTION_STATE_DIR) {
			spec->state_dir = optarg;
		} else if (option == OPTION_FORCE) {
			spec->force = true;
		} else if (option != OPTION_FREE) {
			return err_set(e, ERR_INVALID, "see viv-build --help");
		} else if (parse_u64(optarg, 0, FREE_MIB_MAX, &spec->root_free_mib) < 0) {
			return err_set(e, ERR_INVALID, "--root-free-mib is 0 to %llu",
				       (unsigned long long)FREE_MIB_MAX);
		}
	}
	if (optind < argc)
		return err_set(e, ERR_INVALID, "'%.80s' is no option", argv[optind]);
	if (spec->state_dir == NULL || spec->state_dir[0] != '/')
		return err_set(e, ERR_INVALID, "--state-dir=DIR is needed, an absolute path");
	return 0;
}

int main(int argc, char **argv)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct prepare_spec spec = { .root_free_mib = 512 };
	struct err e = { 0 };
	int r = parse(argc, argv, &spec, &e);

	if (r > 0)
		return 0;
	if (r == 0 && sigaction(SIGPIPE, &ignore, NULL) < 0)
		r = err_errno(&e, errno, "set up signals");
	if (r == 0)
		r = prepare_run(&spec, &e);
	if (r < 0)
		fprintf(stderr, "vivd prepare: %s\n", e.msg);
	return r < 0 ? 1 : 0;
}
