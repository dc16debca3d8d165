/* SPDX-License-Identifier: Apache-2.0 */
/* The body of PATCH /sandboxes/{id}, made into what the sandbox is to be. No HTTP here, so it can
 * be fuzzed. */
#pragma once

#include "base/err.h"
#include "sandbox/sandbox.h"
#include "store/db.h"

/* What is to be; zeroed = nothing changes. */
struct change_request {
	char *user;     /* NULL = stays; owned */
	char *env_json; /* NULL = stays; all of it, JSON object of strings; owned */
	bool has_policy;
	struct sandbox_policy policy; /* all of it, if it has one */
};

/**
 * change_request_parse() - read a merge patch (RFC 7396) of {defaultUser, envs, vivarium:
 * {restart, idle, onIdle}}
 * @row:	what is now
 * @out:	change_request_done() frees it, also on failure
 *
 * Return: 0; -errno with @e set (ERR_INVALID).
 */
must_check int change_request_parse(const char *body, size_t n, const struct db_sandbox *row,
				    struct change_request *out, struct err *e);

/** change_request_done() - free; idempotent on a zeroed one */
void change_request_done(struct change_request *c);
