/* SPDX-License-Identifier: Apache-2.0 */
/* viv-build: what `vivd prepare` and `viv template import` run. */
#include "base/parse.h"
#include "base/str.h"
#include "build/import-run.h"
#include "build/prepare.h"
#include "viv-config.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>

static const uint64_t FREE_MIB_MAX = 1024 * 1024;

static const char usage[] =
	"usage: viv-build --state-dir=DIR [--root-free-mib=N] [--force]\n"
	"       viv-build --state-dir=DIR [--root-free-mib=N] --import=NAME --from=PATH\n"
	"\n"
	"Gets a state directory its guest kernel and base template, as \"vivd prepare\", or makes\n"
	"a template from an image, as \"viv template import\".\n"
	"\n"
	"  --state-dir=DIR     where to\n"
	"  --root-free-mib=N   room in the template's file system, MiB (default 512)\n"
	"  --force             get and make both anew\n"
	"  --import=NAME       make template NAME\n"
	"  --from=PATH         from this tar file or OCI layout\n"
	"  --help, --version\n";

enum {
	OPTION_STATE_DIR = 256,
	OPTION_FREE,
	OPTION_FORCE,
	OPTION_IMPORT,
	OPTION_FROM,
	OPTION_HELP,
	OPTION_VERSION,
};

/* What is wished for: an import, if that has a name. */
struct wish {
	struct prepare_spec prepare;
	struct template_import_spec import;
};

static int take_option(struct wish *w, int option, struct err *e)
{
	if (option == OPTION_STATE_DIR)
		w->prepare.state_dir = optarg;
	else if (option == OPTION_FORCE)
		w->prepare.force = true;
	else if (option == OPTION_IMPORT)
		w->import.name = optarg;
	else if (option == OPTION_FROM)
		w->import.from = optarg;
	else if (option != OPTION_FREE)
		return err_set(e, ERR_INVALID, "see viv-build --help");
	else if (parse_u64(optarg, 0, FREE_MIB_MAX, &w->prepare.root_free_mib) < 0)
		return err_set(e, ERR_INVALID, "--root-free-mib is 0 to %llu",
			       (unsigned long long)FREE_MIB_MAX);
	return 0;
}

static int check_wish(struct wish *w, struct err *e)
{
	if (w->prepare.state_dir == NULL || w->prepare.state_dir[0] != '/')
		return err_set(e, ERR_INVALID, "--state-dir=DIR is needed, an absolute path");
	if ((w->import.name == NULL) != (w->import.from == NULL))
		return err_set(e, ERR_INVALID, "--import and --from need each other");
	if (w->import.name != NULL && w->prepare.force)
		return err_set(e, ERR_INVALID, "an import is new always: without --force");
	w->import.state_dir = w->prepare.state_dir;
	w->import.free_mib = w->prepare.root_free_mib;
	return 0;
}

/* Return: 0; 1 answered, nothing is to be done; -EINVAL with @e set, or after getopt said why. */
static int parse(int argc, char **argv, struct wish *wish, struct err *e)
{
	static const struct option options[] = {
		{ "state-dir", required_argument, NULL, OPTION_STATE_DIR },
		{ "root-free-mib", required_argument, NULL, OPTION_FREE },
		{ "force", no_argument, NULL, OPTION_FORCE },
		{ "import", required_argument, NULL, OPTION_IMPORT },
		{ "from", required_argument, NULL, OPTION_FROM },
		{ "help", no_argument, NULL, OPTION_HELP },
		{ "version", no_argument, NULL, OPTION_VERSION },
		{ NULL },
	};
	int option;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == OPTION_HELP || option == OPTION_VERSION) {
			printf("%s", option == OPTION_HELP ? usage : "viv-build " VIV_VERSION "\n");
			return 1;
		}
		if (take_option(wish, option, e) < 0)
			return -EINVAL;
	}
	if (optind < argc)
		return err_set(e, ERR_INVALID, "'%.80s' is no option", argv[optind]);
	return check_wish(wish, e);
}

int main(int argc, char **argv)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct wish wish = { .prepare = { .root_free_mib = 512 } };
	struct err e = { 0 };
	int r = parse(argc, argv, &wish, &e);

	if (r > 0)
		return 0;
	if (r == 0 && sigaction(SIGPIPE, &ignore, NULL) < 0)
		r = err_errno(&e, errno, "set up signals");
	if (r == 0)
		r = wish.import.name != NULL ? import_run(&wish.import, &e)
					     : prepare_run(&wish.prepare, &e);
	if (r < 0)
		fprintf(stderr, "%s: %s\n",
			wish.import.name != NULL ? "viv template import" : "vivd prepare", e.msg);
	return r < 0 ? 1 : 0;
}
