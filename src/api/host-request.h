/* SPDX-License-Identifier: Apache-2.0 */
/* What requests about the host share: who may change it, and a reply that comes later, when the one
 * who asked may be gone. */
#pragma once

#include "http/server.h"

/** host_check_local() - whether a request may change the host: it came over the unix socket.
 * Otherwise it is answered, with 403 */
bool host_check_local(struct http_exchange *x);

struct late_reply;

/** late_reply_new() - remember an exchange; late_reply_take() ends that */
struct late_reply *late_reply_new(struct http_exchange *x);

/** late_reply_take() - the exchange, to be answered now, or NULL when it was closed; frees @late */
struct http_exchange *late_reply_take(struct late_reply *late);
