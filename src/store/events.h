/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What befell sandboxes. The store itself records it: triggers (schema.c) write an event in the
 * transaction that changes the row of a sandbox, so that neither is ever there without the other,
 * whatever is killed when. Events are kept for 7 days, and 100000 of them.
 */
#pragma once

#include "store/db.h"

/* One of them. Strings are borrowed until the callback that has it returns. */
struct db_event {
	uint64_t id; /* grows by one from event to event */
	uint64_t at_ms;
	const char
		*type; /* created, running, paused, resumed, checkpointed, stopped, killed, error */
	const char *sandbox; /* its id */
	const char *name;    /* "" = it has none */
	const char *template_name;
	/* "timeout": its deadline; "idle": its idle timeout; "restart": its restart policy; of a VM
	 * that ended: "exit", "panic", "oom", "vmm" or "lost" (sandbox/death.h); "" = somebody
	 * asked for it */
	const char *cause;
	const char *error;   /* "" = none */
	uint64_t generation; /* checkpoint that it was at, or came from last; 0 = none */
};

struct db_event_query {
	uint64_t after;      /* only those with greater ids */
	size_t limit;        /* at most so many, the oldest of them */
	const char *sandbox; /* id; NULL = of all */
};

/** db_event_each() - read events in their order; @fn ends the walk with < 0. Return: 0; what @fn
 * returned; -errno with @e set */
must_check int db_event_each(struct db *db, const struct db_event_query *q,
			     int (*fn)(const struct db_event *event, void *arg), void *arg,
			     struct err *e);

/** db_event_last() - the newest event's id, 0 = there never was one. Return: 0; -errno, @e set */
must_check int db_event_last(struct db *db, uint64_t *out, struct err *e);

/** db_event_watch() - have a function called whenever an event is written; it must not use the
 * store itself. One at a time; NULL ends it */
void db_event_watch(struct db *db, void (*fn)(void *arg), void *arg);
