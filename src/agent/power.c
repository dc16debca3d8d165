/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/power.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/guestwords.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <unistd.h>

enum { GRACE_MS = 2000 };

void power_say(const char *line)
{
	auto_close int console = open("/dev/console", O_WRONLY | O_NOCTTY | O_CLOEXEC);

	/* Before /dev is mounted there is only what the kernel opened for us. */
	ignore_err(fd_write_all(console >= 0 ? console : STDERR_FILENO, line,
				strlen(line))); /* there is nobody else to tell */
}

/* A reset and not a power-off: the VMM takes either as the end of the VM, and a reset needs no
 * ACPI. */
static _Noreturn void reset(void)
{
	sync();
	reboot(RB_AUTOBOOT);
	for (;;) /* PID 1 must not return, or the kernel panics */
		pause();
}

/* Reaps until no child is left or the time is up. */
static void reap_all(uint64_t deadline_ns)
{
	sigset_t child;

	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	ignore_err(sigprocmask(SIG_BLOCK, &child, NULL)); /* the arguments are valid */
	for (;;) {
		uint64_t now = clock_now_ns();
		pid_t pid = waitpid(-1, NULL, WNOHANG);
		struct timespec left;

		if (pid < 0 || now >= deadline_ns)
			return;
		if (pid > 0)
			continue;
		left = (struct timespec){ .tv_sec = (time_t)((deadline_ns - now) / NS_PER_S),
					  .tv_nsec = (long)((deadline_ns - now) % NS_PER_S) };
		ignore_err(sigtimedwait(&child, NULL, &left)); /* the loop looks at both outcomes */
	}
}

void power_end(void)
{
	ignore_err(kill(-1, SIGTERM)); /* nobody there is as good */
	reap_all(clock_now_ns() + (uint64_t)GRACE_MS * NS_PER_MS);
	ignore_err(kill(-1, SIGKILL)); /* nobody there is as good */
	reap_all(clock_now_ns() + (uint64_t)GRACE_MS * NS_PER_MS);
	sync();
	/* It only saves the next boot a journal replay. */
	ignore_err(mount(NULL, "/", NULL, MS_REMOUNT | MS_RDONLY, NULL));
	reset();
}

void power_fatal(const char *why)
{
	auto_free char *line = str_printf("%s%s\n", GUEST_FATAL_PREFIX, why);

	power_say(line);
	reset();
}
