/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sig.h"

#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

/* By the system call: libc refuses the signals that it keeps, and they may be inherited ignored. */
int sig_reset(void)
{
	/* As the kernel lays it out. All zero is SIG_DFL. */
	static const struct {
		uintptr_t handler;
		unsigned long flags;
		uintptr_t restorer;
		uint64_t mask;
	} dfl;
	sigset_t none;

	for (int sig = 1; sig < NSIG; sig++)
		syscall(SYS_rt_sigaction, sig, &dfl, NULL, sizeof(dfl.mask)); /* not KILL, STOP */
	sigemptyset(&none);
	return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}
