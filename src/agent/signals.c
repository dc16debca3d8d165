/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/signals.h"

#include "base/str.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

/* The texts are those that envd's clients know: the names of Go's syscall package. */
static const struct {
	const char *name;
	const char *text;
} signals[] = {
	[SIGHUP] = { "HUP", "hangup" },
	[SIGINT] = { "INT", "interrupt" },
	[SIGQUIT] = { "QUIT", "quit" },
	[SIGILL] = { "ILL", "illegal instruction" },
	[SIGTRAP] = { "TRAP", "trace/breakpoint trap" },
	[SIGABRT] = { "ABRT", "aborted" },
	[SIGBUS] = { "BUS", "bus error" },
	[SIGFPE] = { "FPE", "floating point exception" },
	[SIGKILL] = { "KILL", "killed" },
	[SIGUSR1] = { "USR1", "user defined signal 1" },
	[SIGSEGV] = { "SEGV", "segmentation fault" },
	[SIGUSR2] = { "USR2", "user defined signal 2" },
	[SIGPIPE] = { "PIPE", "broken pipe" },
	[SIGALRM] = { "ALRM", "alarm clock" },
	[SIGTERM] = { "TERM", "terminated" },
	[SIGSTKFLT] = { "STKFLT", "stack fault" },
	[SIGCHLD] = { "CHLD", "child exited" },
	[SIGCONT] = { "CONT", "continued" },
	[SIGSTOP] = { "STOP", "stopped (signal)" },
	[SIGTSTP] = { "TSTP", "stopped" },
	[SIGTTIN] = { "TTIN", "stopped (tty input)" },
	[SIGTTOU] = { "TTOU", "stopped (tty output)" },
	[SIGURG] = { "URG", "urgent I/O condition" },
	[SIGXCPU] = { "XCPU", "CPU time limit exceeded" },
	[SIGXFSZ] = { "XFSZ", "file size limit exceeded" },
	[SIGVTALRM] = { "VTALRM", "virtual timer expired" },
	[SIGPROF] = { "PROF", "profiling timer expired" },
	[SIGWINCH] = { "WINCH", "window changed" },
	[SIGIO] = { "IO", "I/O possible" },
	[SIGPWR] = { "PWR", "power failure" },
	[SIGSYS] = { "SYS", "bad system call" },
};

int signal_parse(const char *name)
{
	if (str_starts(name, "SIGNAL_"))
		name += strlen("SIGNAL_");
	if (!str_starts(name, "SIG"))
		return -EINVAL;
	name += strlen("SIG");
	for (int i = 1; i < (int)ARRAY_SIZE(signals); i++)
		if (streq(signals[i].name, name))
			return i;
	return -EINVAL;
}

void signal_text(int number, bool dumped_core, char out[SIGNAL_TEXT_SIZE])
{
	const char *core = dumped_core ? " (core dumped)" : "";

	if (number > 0 && number < (int)ARRAY_SIZE(signals))
		snprintf(out, SIGNAL_TEXT_SIZE, "signal: %s%s", signals[number].text, core);
	else
		snprintf(out, SIGNAL_TEXT_SIZE, "signal: signal %d%s", number, core);
}
