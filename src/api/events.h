/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that follow events: GET /events with "Accept: text/event-stream". */
#pragma once

#include "api/api-internal.h"

struct event_feed;

/** event_feed_new() - told of what is new by the store of a manager, which there must be as long as
 * somebody follows. Loop thread; one for a manager */
struct event_feed *event_feed_new(struct manager *m);

/** event_feed_free() - when no more is told: the store is closed; NULL is allowed */
void event_feed_free(struct event_feed *feed);
