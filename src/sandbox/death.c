/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Nothing tells what ended a VMM but what is left of it: its exit code, which only its parent gets,
 * so that of an adopted one it is unknown; the event that a guest which ends itself has its VMM
 * send; and the console. A panicking kernel says so there, and resets the machine (panic=-1), which
 * is an end like any other. The kernel counts the processes that it ends for want of memory just
 * before it does.
 */
#include "sandbox/death.h"

#include "base/file.h"
#include "base/parse.h"
#include "base/str.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>

enum { TAIL_BYTES = 600, PANIC_TAIL_BYTES = 16384, PANIC_LINE_MAX = 200, SIGNAL_BASE = 128 };
enum { VMSTAT_MAX_BYTES = 65536 };

static const char panic_words[] = "Kernel panic - not syncing";

static const char *const names[] = {
	[DEATH_EXIT] = "exit", [DEATH_PANIC] = "panic", [DEATH_OOM] = "oom",
	[DEATH_VMM] = "vmm",   [DEATH_LOST] = "lost",   [DEATH_HUNG] = "hung",
};
static_assert(ARRAY_SIZE(names) == DEATH_N, "every cause has a name");

const char *death_name(enum death_cause cause)
{
	return names[cause];
}

bool death_is_failure(enum death_cause cause)
{
	return cause != DEATH_EXIT;
}

/* The line with which a panic begins, if the console's end is one; caller frees. */
static char *panic_line(const struct console *console)
{
	auto_free char *tail = console_tail(console, PANIC_TAIL_BYTES);
	const char *at = strstr(tail, panic_words);
	const char *next;

	while (at != NULL && (next = strstr(at + 1, panic_words)) != NULL &&
	       strstr(at, "end Kernel panic") == NULL)
		at = next;
	if (at == NULL)
		return NULL;
	return str_printf("%.*s", (int)MIN(strcspn(at, "\n"), (size_t)PANIC_LINE_MAX), at);
}

static enum death_cause cause_of(const struct death *d, const char *panic)
{
	bool unknown = d->code < 0;

	if (panic != NULL && (d->by_guest || d->code == 0 || unknown))
		return DEATH_PANIC;
	if (d->by_guest)
		return DEATH_EXIT;
	if (d->was_silent)
		return DEATH_HUNG;
	if (d->oom_kills > 0 && (unknown || d->code == SIGNAL_BASE + SIGKILL))
		return DEATH_OOM;
	return DEATH_VMM;
}

/* What a VMM that ended by itself, or was ended, says by its code; caller frees. */
static char *of_code(int code)
{
	if (code < 0)
		return str_dup("the VMM ended");
	if (code == 0)
		return str_dup("something on the host asked the VMM to end");
	if (code > SIGNAL_BASE)
		return str_printf("the VMM was ended by signal %d (%s)", code - SIGNAL_BASE,
				  strsignal(code - SIGNAL_BASE));
	return str_printf("the VMM ended with code %d", code);
}

static char *reason(const struct death *d, enum death_cause cause, const char *panic)
{
	switch (cause) {
	case DEATH_PANIC:
		return str_printf("the guest's kernel panicked: %s", panic);
	case DEATH_EXIT:
		return str_dup("the guest ended itself (power off or reboot)");
	case DEATH_OOM:
		return str_dup("the host ran out of memory, and its kernel ended the VMM");
	case DEATH_HUNG:
		return str_dup("the guest agent did not answer any more, and its VM was ended");
	case DEATH_VMM:
	case DEATH_LOST:
	case DEATH_N:
		break;
	}
	return of_code(d->code);
}

char *death_explain(const struct death *d, enum death_cause *out_cause)
{
	auto_free char *panic = panic_line(d->console);
	auto_free char *tail = console_tail(d->console, TAIL_BYTES);
	auto_free char *why = NULL;

	*out_cause = cause_of(d, panic);
	why = reason(d, *out_cause, panic);
	return str_printf("%s; console: %s", why, tail);
}

uint64_t death_oom_kills(void)
{
	auto_buf text = BUF_INIT(VMSTAT_MAX_BYTES);
	uint64_t kills = 0;

	if (file_read_at(AT_FDCWD, "/proc/vmstat", &text) == 0)
		ignore_err(parse_keyed(buf_str(&text), "oom_kill", &kills));
	return kills;
}
