/* SPDX-License-Identifier: Apache-2.0 */
/*
 * viv template import: a template from an image. Making one is the work of viv-build, which takes
 * the place of this process, as with `vivd prepare`: so a build has the rights and the files of
 * whoever asks for it, and a daemon that ends ends no build.
 */
#include "cli/template-import.h"
#include "base/str.h"
#include "cli/cli.h"
#include "viv-config.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

/* The program beside this viv (a build tree), else the installed one; caller frees. */
static char *find_program(const char *name)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	auto_free char *path = NULL;

	self[MAX(n, 0)] = '\0';
	path = str_printf("%s/%s", dirname(self), name);
	if (n > 0 && access(path, X_OK) == 0)
		return take_ptr(&path);
	return str_printf("%s/%s", VIV_LIBEXECDIR, name);
}

/* Where vivd keeps its templates; caller frees. */
static char *find_state_dir(struct cli *cli, struct op *op)
{
	auto_json *all = NULL;
	const char *path;

	if (cli_call(cli, "GET", "/df", NULL, &all, op) < 0)
		return NULL;
	path = json_text(json_object_get(all, "stateDir"), "path");
	if (path[0] == '/')
		return str_dup(path);
	err_set(&op->err, ERR_SYSTEM, "vivd does not tell where its templates are");
	return NULL;
}

/* Becomes viv-build, whose signals are its own again. Return: -errno with op->err set. */
static int become_build(const char *state_dir, const char *name, const char *from, struct op *op)
{
	auto_free char *program = find_program("viv-build");
	auto_free char *state_option = str_printf("--state-dir=%s", state_dir);
	auto_free char *name_option = str_printf("--import=%s", name);
	auto_free char *from_option = str_printf("--from=%s", from);
	char build[] = "viv-build";
	char *const argv[] = { build, state_option, name_option, from_option, NULL };
	sigset_t none;

	sigemptyset(&none);
	if (fflush(NULL) != 0 || sigprocmask(SIG_SETMASK, &none, NULL) < 0)
		return err_errno(&op->err, errno, "set up signals");
	execv(program, argv);
	return err_errno(&op->err, errno,
			 "run %s, which belongs to this viv: install all of it again", program);
}

int template_import(struct cli *cli, int argc, char **argv)
{
	auto_free char *state_dir = NULL;
	struct op op;

	if (argc != 3)
		return cli_usage(&verb_template, "import takes a name and a file");
	op_init(&op, 0, cli->signal_fd);
	if (access(argv[2], R_OK) < 0)
		err_errno(&op.err, errno, "read %s", argv[2]);
	else if (geteuid() != 0)
		err_set(&op.err, ERR_UNSUPPORTED,
			"a template can only be made by root: sudo viv template import ...");
	else
		state_dir = find_state_dir(cli, &op);
	if (state_dir != NULL)
		ignore_err(become_build(state_dir, argv[1], argv[2], &op)); /* op has it */
	return cli_fail(cli, &op, EXIT_FAILED);
}
