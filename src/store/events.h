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

/* Before a type, to whom E2B's names are said: "sandbox.lifecycle.created". */
#define EVENT_TYPE_PREFIX "sandbox.lifecycle."

/* All types, one blank before and behind each. */
#define EVENT_TYPES " created running paused resumed checkpointed stopped killed error "

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

enum db_watched { DB_WATCH_EVENTS = 1, DB_WATCH_WEBHOOKS = 2 };

/* Who is told that an event is written, or a webhook (store/webhooks.h). */
struct db_watch {
	unsigned what;         /* of enum db_watched, any */
	void (*fn)(void *arg); /* within the change: it must not use the store itself */
	void *arg;
	struct db_watch *next; /* the store's */
};

/** db_watch_add() - have somebody told; @watch is theirs, and stays until it is removed or the
 * store closed */
void db_watch_add(struct db *db, struct db_watch *watch);

/** db_watch_remove() - tell no more; idempotent */
void db_watch_remove(struct db *db, struct db_watch *watch);
