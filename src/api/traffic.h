/* SPDX-License-Identifier: Apache-2.0 */
/* What a sandbox asks of those who use its ports, and what its servers are shown. */
#pragma once

#include "http/codec.h"
#include "store/db.h"

/* The header that has the token of a sandbox whose ports are not public. It goes no further. */
#define TRAFFIC_TOKEN_HEADER "e2b-traffic-access-token"

/** traffic_may_pass() - whether a request for a port other than the agent's has what the sandbox
 * asks for */
bool traffic_may_pass(const struct db_sandbox *row, const struct http_head *head);

/** traffic_host() - the Host that a server on @port is to see; caller frees; NULL = as it was sent
 */
char *traffic_host(const struct db_sandbox *row, unsigned port);
