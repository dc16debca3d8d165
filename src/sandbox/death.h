/* SPDX-License-Identifier: Apache-2.0 */
/* What a VM ended of, when nobody had asked for its end. */
#pragma once

#include "sandbox/console.h"

/* Causes, as events have them. */
enum death_cause {
	DEATH_EXIT,  /* the guest powered itself off, or rebooted */
	DEATH_PANIC, /* its kernel panicked */
	DEATH_OOM,   /* the host's kernel ended the VMM for want of memory */
	DEATH_VMM,   /* the VMM crashed, or somebody ended it */
	DEATH_LOST,  /* it was gone when vivd started */
	DEATH_HUNG,  /* vivd ended it, since the guest did not answer, and is to be started again */
	DEATH_N
};

/** death_name() - "exit", "panic", "oom", "vmm", "lost", "hung"; static storage */
const char *death_name(enum death_cause cause);

/** death_is_failure() - whether nobody wanted it: all but DEATH_EXIT */
bool death_is_failure(enum death_cause cause);

/* What is known of an end. */
struct death {
	int code;           /* vmm_reap() */
	bool by_guest;      /* the VMM told of the guest's own end (VMM_EVENT_SHUTDOWN) */
	uint64_t oom_kills; /* by the host's kernel: of its own (cgroup_oom_kills()), or, if that
			     * does not tell, of anybody since it ran (death_oom_kills()) */
	bool was_silent;    /* vivd ended it for that */
	const struct console *console; /* all that came of it */
};

/**
 * death_explain() - why it ended, for people, with the last lines of its console
 *
 * Return: the text; caller frees.
 */
char *death_explain(const struct death *d, enum death_cause *out_cause);

/** death_oom_kills() - how many processes the host's kernel has ended for want of memory since it
 * booted; 0 = it does not tell */
uint64_t death_oom_kills(void);
