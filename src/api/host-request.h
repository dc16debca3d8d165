/* SPDX-License-Identifier: Apache-2.0 */
/* What requests about the host share: who may change it. */
#pragma once

#include "http/server.h"

/** host_check_local() - whether a request may change the host: it came over the unix socket.
 * Otherwise it is answered, with 403 */
bool host_check_local(struct http_exchange *x);
