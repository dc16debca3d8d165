/* SPDX-License-Identifier: Apache-2.0 */
/* Which sandbox and port a request names. Looks at its head only, so it can be fuzzed. */
#pragma once

#include "base/err.h"
#include "http/codec.h"

enum { TARGET_ID_SIZE = 64 };

struct target {
	char id[TARGET_ID_SIZE]; /* [a-z0-9], 1 or more: the form of an id, not one that exists */
	uint16_t port;           /* 1 or more */
};

/**
 * target_parse() - find the sandbox that a request names
 * @domain:	that sandboxes have names under, lower case; NULL = none but localhost
 *
 * By the headers E2b-Sandbox-Id and E2b-Sandbox-Port, which count whatever the Host is, or by the
 * Host: PORT-ID.localhost or PORT-ID.<domain>, where -ANYTHING may follow the id.
 * Return: 1 there is one; 0 the request names none; -errno with @e set: it names one wrongly.
 */
must_check int target_parse(const struct http_head *head, const char *domain, struct target *out,
			    struct err *e);

/** target_is_host_only() - whether a path of the guest agent's, however spelled, is for the host
 * alone */
bool target_is_host_only(const struct target *t, const char *path);
