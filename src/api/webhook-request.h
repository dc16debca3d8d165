/* SPDX-License-Identifier: Apache-2.0 */
/* What a request wants of a webhook. No HTTP here, so it can be fuzzed. */
#pragma once

#include "base/json.h"
#include "store/webhooks.h"

/* Strings are borrowed from the request's JSON, but for the last; NULL = not said. */
struct webhook_request {
	const char *name;
	const char *url;
	const char *secret;
	bool has_enabled;
	bool enabled;
	char *kinds; /* owned, as in struct db_webhook */
};

/**
 * webhook_request_read() - the fields of a request
 * @o:		its body; borrowed as long as @out is used
 * @any_address:	URLs may name loopback and private addresses
 * @out:	webhook_request_done() frees it, also after a failure
 *
 * Return: 0; -errno with @e set (ERR_INVALID).
 */
must_check int webhook_request_read(const json_t *o, bool any_address, struct webhook_request *out,
				    struct err *e);

/** webhook_request_done() - free what it owns; idempotent */
void webhook_request_done(struct webhook_request *request);

/**
 * webhook_url_check() - whether a URL can be a webhook's: http or https, a host of plain characters
 * or an address, maybe a port and a path; no user, no fragment
 *
 * An address that is none of the internet's is refused here only for its user's sake: what counts
 * is viv-hook's look at the one that is connected to.
 * Return: 0; -errno with @e set (ERR_INVALID).
 */
must_check int webhook_url_check(const char *url, bool any_address, struct err *e);
