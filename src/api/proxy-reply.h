/* SPDX-License-Identifier: Apache-2.0 */
/* What the proxy itself says in place of a sandbox: JSON, and to browsers a page. */
#pragma once

#include "api/api-internal.h"
#include "api/route-target.h"

/** proxy_reply_gone() - there is no such sandbox, or it does not run */
void proxy_reply_gone(struct http_exchange *x, const struct target *t);

/** proxy_reply_changing() - it is being paused, resumed or started */
void proxy_reply_changing(struct http_exchange *x, const struct target *t);

/** proxy_reply_asleep() - it is paused, and could not be woken because of @e */
void proxy_reply_asleep(struct http_exchange *x, const struct target *t, const struct err *e);

/** proxy_reply_closed() - it runs, but nothing listens on the port */
void proxy_reply_closed(struct http_exchange *x, const struct target *t);

/** proxy_reply_hung_up() - it runs, but the server there ended the connection without an answer */
void proxy_reply_hung_up(struct http_exchange *x, const struct target *t);

/** proxy_reply_busy() - it runs, but its agent leads to too many ports of its loopback already */
void proxy_reply_busy(struct http_exchange *x, const struct target *t);

/** proxy_reply_not_public() - its ports ask for a token, which is not there or not the one */
void proxy_reply_not_public(struct http_exchange *x, const struct target *t);

/** proxy_reply_host_only() - the path is not for clients */
void proxy_reply_host_only(struct http_exchange *x);

/** proxy_reply_bad() - the sandbox is named wrongly */
void proxy_reply_bad(struct http_exchange *x, const struct err *e);
