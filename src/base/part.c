/* SPDX-License-Identifier: Apache-2.0 */
#include "base/part.h"

#include "base/fd.h"

#include <errno.h>
#include <signal.h>
#include <sys/prctl.h>

int part_begin(int control_fd, const char *name, struct err *e)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	int r;

	if (prctl(PR_SET_DUMPABLE, 0UL, 0UL, 0UL, 0UL) < 0 || sigaction(SIGPIPE, &ignore, NULL) < 0)
		return err_errno(e, errno, "set up the process");
	r = fd_set_nonblock(control_fd, true);
	return r < 0 ? err_errno(e, -r, "use descriptor %d, by which vivd starts %s", control_fd,
				 name)
		     : 0;
}
