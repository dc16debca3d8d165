/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Webhooks: what the store says is to be posted, is posted, by viv-hook (base/hookwords.h), which
 * is there while there is something to post and for a while behind it.
 *
 * Theory of operation. The queue is the store's (store/webhooks.h); here is only what is under way:
 * of each webhook a few events, of different sandboxes, whose numbers are known. A result moves the
 * lane in the store. So whatever is killed, what was not written as delivered is posted again: at
 * least once, and in order, since of a lane only its first event is under way. A lane whose event
 * failed is due later, with back-off, until the event expires with all events of its age.
 *
 * The store's word of a new event, a result, and the time of a next try all lead to hooks_pump(),
 * which looks for what is due as far as there is room, and is right to be called at any time.
 */
#pragma once

#include "base/err.h"
#include "store/db.h"

#include <uv.h>

struct hooks;

struct hooks_spec {
	unsigned uid;     /* of viv-hook, and its gid */
	bool any_address; /* webhooks may be at loopback and private ones */
};

/** hooks_possible() - whether viv-hook is installed: it is built only where libcurl is */
bool hooks_possible(void);

/**
 * hooks_open() - begin to post
 * @db:		outlives hooks_close()
 * @out:	hooks_close() ends it
 *
 * Return: 0; -errno with @e set.
 */
must_check int hooks_open(uv_loop_t *loop, struct db *db, const struct hooks_spec *spec,
			  struct hooks **out, struct err *e);

/** hooks_close() - stop posting, end viv-hook; the loop must still run for close callbacks. NULL is
 * allowed */
void hooks_close(struct hooks *h);
