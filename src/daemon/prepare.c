/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `vivd prepare` is viv-build: what builds takes libraries and code that a daemon need not hold. It
 * takes the place of this process, so that its signals, exit code and locks are the command's.
 */
#include "daemon/prepare.h"

#include "base/str.h"
#include "daemon/program.h"

#include <errno.h>
#include <unistd.h>

int prepare_exec(const struct config *config, struct err *e)
{
	auto_free char *program = program_find("viv-build");
	auto_free char *state_dir = str_printf("--state-dir=%s", config->state_dir);
	auto_free char *room =
		str_printf("--root-free-mib=%llu", (unsigned long long)config->root_free_mib);
	char name[] = "viv-build";
	char force[] = "--force";
	char *const argv[] = { name, state_dir, room, config->force ? force : NULL, NULL };

	execv(program, argv);
	return err_errno(e, errno, "run %s, which belongs to this vivd: install all of it again",
			 program);
}
