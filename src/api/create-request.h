/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/err.h"
#include "store/db.h"

/**
 * create_request_parse() - read the body of POST /sandboxes or POST /v2/sandboxes (E2B's
 * NewSandbox)
 * @v2:		the second generation: always secured, 300 s instead of 15 s
 * @out:	initialised; filled in, also in part on failure
 *
 * Unknown fields are ignored, as E2B does, except in our own object `vivarium`; a field of E2B's
 * that is known and not supported is refused by name. Return: 0; -errno with @e set (ERR_INVALID).
 */
must_check int create_request_parse(const char *body, size_t n, bool v2, struct db_sandbox *out,
				    struct err *e);
