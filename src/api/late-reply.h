/* SPDX-License-Identifier: Apache-2.0 */
/* A reply that comes later, when the one who asked may be gone. Loop thread. */
#pragma once

#include "base/err.h"
#include "http/server.h"

struct api;
struct late_reply;

/** late_reply_new() - remember an exchange; late_reply_take() ends that */
struct late_reply *late_reply_new(struct http_exchange *x);

/** late_reply_for() - as late_reply_new(), of what needs the API to be written: late_reply_api() */
struct late_reply *late_reply_for(struct http_exchange *x, const struct api *api);
const struct api *late_reply_api(const struct late_reply *late);

/** late_reply_on_gone() - be told, at most once and before late_reply_take(), that the client went
 * away */
void late_reply_on_gone(struct late_reply *late, void (*fn)(void *arg), void *arg);

/** late_reply_take() - the exchange, to be answered now, or NULL when it was closed; frees @late */
struct http_exchange *late_reply_take(struct late_reply *late);

/** late_reply_end() - answer with nothing (204), or the error that @e is, whoever is still there;
 * frees @late */
void late_reply_end(struct late_reply *late, const struct err *e);
