/* SPDX-License-Identifier: Apache-2.0 */
/*
 * E2B's network fields, of a new sandbox (`network`, `allow_internet_access`) and of a change (the
 * body of PUT /sandboxes/{id}/network). No HTTP here, so it can be fuzzed. Of a list at most 1000
 * networks are taken. What is known and not supported, and what is unknown, is refused by name: a
 * rule that is not there is worse than an error.
 */
#pragma once

#include "base/err.h"
#include "base/json.h"
#include "store/db.h"

/**
 * network_request_take() - read the fields of a new sandbox
 * @o:		the whole request
 * @out:	its access_token is set already; egress, traffic_token and mask_host are filled in,
 *		also in part on failure
 *
 * Return: 0; -errno with @e set (ERR_INVALID).
 */
must_check int network_request_take(const json_t *o, struct db_sandbox *out, struct err *e);

/**
 * network_request_parse() - read the body of a change
 * @out:	initialised; filled in, also in part on failure; what is left out stays unset
 *
 * Return: 0; -errno with @e set (ERR_INVALID).
 */
must_check int network_request_parse(const char *body, size_t n, struct db_egress *out,
				     struct err *e);

/** json_of_network() - E2B's SandboxNetworkConfig; new reference; NULL = nothing is set */
json_t *json_of_network(const struct db_sandbox *row);
