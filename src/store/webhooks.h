/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Webhooks, and what is still to be posted to them. The store queues by itself: the transaction
 * that writes an event makes a lane for each enabled webhook that wants it, unless the sandbox has
 * one there already. A lane is the place of one webhook in the events of one sandbox, so nothing is
 * copied and nothing is out of order; it moves on when an event was delivered, or expired, and goes
 * when it is at the end.
 */
#pragma once

#include "store/events.h"

enum {
	WEBHOOKS_MAX = 50,
	WEBHOOK_ID_LEN = 13, /* 'w' and hex digits */
	WEBHOOK_NAME_MAX = 100,
	WEBHOOK_URL_MAX = 2048,
	WEBHOOK_SECRET_MAX = 256,
	WEBHOOK_ERROR_MAX = 240,
};

/* One of them. Strings are borrowed: of who gives it, or until the callback that has it returns. */
struct db_webhook {
	const char *id;
	const char *name; /* "" = it has none */
	const char *url;
	const char *secret; /* as it was given: signatures need it */
	const char *kinds; /* types of events, a blank before and behind each: " created killed " */
	bool enabled;
	uint64_t created_ms; /* CLOCK_REALTIME, as all of these */

	/* What became of it; not written by insert and update. */
	uint64_t delivered;    /* events */
	uint64_t delivered_ms; /* the last one; 0 = never */
	uint64_t failed;       /* tries */
	uint64_t failed_ms;    /* the last one; 0 = never */
	const char *last_error;
	uint64_t dropped; /* events that expired; those that a disabling ended are not counted */
};

/* An event that is to be posted. */
struct db_delivery {
	struct db_event event;
	unsigned tries; /* that failed */
};

/* What is told of a sandbox with its events. */
struct db_event_facts {
	char *metadata_json; /* owned; "" = not known */
	unsigned cpus;       /* 0 = not known, as the next */
	uint64_t memory_mib;
	uint64_t execution;  /* event after which its present run began; 0 = not known */
	uint64_t running_ms; /* when it ran, in that; 0 = not known, or it did not */
};

/* What came of a try. */
struct db_delivery_result {
	const char *webhook; /* id */
	const char *sandbox; /* id */
	uint64_t event;
	uint64_t at_ms;
	const char *error; /* "" = it was delivered */
	uint64_t due_ms;   /* of one that failed: when the next try is */
};

/** db_webhook_insert() - keep a webhook, which gets what happens from now on. Return: 0; -errno
 * with @e set */
must_check int db_webhook_insert(struct db *db, const struct db_webhook *w, struct err *e);

/** db_webhook_update() - write all that is not counted. One that is disabled loses what waits for
 * it; a new URL is tried at once. Return: 0; -ENOENT with ERR_NOT_FOUND; -errno with @e set */
must_check int db_webhook_update(struct db *db, const struct db_webhook *w, struct err *e);

/** db_webhook_delete() - forget one, and what waits for it. Return: 0; -ENOENT with ERR_NOT_FOUND;
 * -errno with @e set */
must_check int db_webhook_delete(struct db *db, const char *id, struct err *e);

/**
 * db_webhook_each() - read webhooks in order of creation
 * @id:		of the one that is wanted; NULL = all
 * @fn:		ends the walk with < 0; it may use the store, but for this function
 *
 * Return: 0; what @fn returned; -errno with @e set.
 */
must_check int db_webhook_each(struct db *db, const char *id,
			       int (*fn)(const struct db_webhook *w, void *arg), void *arg,
			       struct err *e);

/** db_webhook_waiting() - count the sandboxes that have events to be posted to one. Return: 0;
 * -errno with @e set */
must_check int db_webhook_waiting(struct db *db, const char *id, uint64_t *out, struct err *e);

/* What may be posted, and to whom. */
struct db_due {
	const char *webhook;
	uint64_t now_ms; /* CLOCK_REALTIME */
	size_t limit;    /* the longest due first */
};

/**
 * db_delivery_each() - what may be posted to a webhook now: of each sandbox its oldest event
 * @fn:		ends the walk with < 0, and does not write to the store
 *
 * Return: 0; what @fn returned; -errno with @e set.
 */
must_check int db_delivery_each(struct db *db, const struct db_due *due,
				int (*fn)(const struct db_delivery *d, void *arg), void *arg,
				struct err *e);

/** db_delivery_next() - when the next try is that is not due yet, CLOCK_REALTIME; 0 = there is no
 * Return: 0; -errno with @e set */
must_check int db_delivery_next(struct db *db, uint64_t now_ms, uint64_t *out_ms, struct err *e);

/** db_delivery_done() - write what came of a try; of what waits no more only the count is. Return:
 * 0; -errno with @e set */
must_check int db_delivery_done(struct db *db, const struct db_delivery_result *result,
				struct err *e);

/** db_delivery_hurry() - all that waits is due: clocks may have changed since it was written.
 * Return: 0; -errno with @e set */
must_check int db_delivery_hurry(struct db *db, struct err *e);

/** db_event_facts() - of the sandbox of an event, as long as there is the row or the event of its
 * end. @out is freed by db_event_facts_done(). Return: 0; -errno with @e set */
must_check int db_event_facts(struct db *db, const char *sandbox, uint64_t event,
			      struct db_event_facts *out, struct err *e);

/** db_event_facts_done() - free what they own; idempotent */
void db_event_facts_done(struct db_event_facts *facts);
