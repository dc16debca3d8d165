/* SPDX-License-Identifier: Apache-2.0 */
/* What requests for files have in common: query, rights, user. */
#pragma once

#include "agent/files-error.h"
#include "agent/user.h"
#include "http/server.h"

#include <limits.h>

struct agent;

struct files_request {
	struct user user;
	char *path;     /* as sent; NULL = not given */
	char *username; /* as sent; NULL = not given */
};

/**
 * files_request_read() - check that a request may be served, and for whom
 * @operation:	what a signature must allow: "read", "write"
 * @out:	files_request_done() frees it, also on failure
 *
 * Return: 0; -EPROTO with @e set.
 */
must_check int files_request_read(const struct agent *a, const struct http_head *head,
				  const char *operation, struct files_request *out,
				  struct files_error *e);

/** files_query_get() - a parameter of the query, NULL if absent, which the caller frees. Return: 0;
 * -EPROTO with @e set */
must_check int files_query_get(const struct http_head *head, const char *name, char **out,
			       struct files_error *e);

/** files_request_resolve() - a path as the request's user means it. Return: 0; -EPROTO, @e set */
must_check int files_request_resolve(const struct agent *a, const struct files_request *r,
				     const char *path, char out[PATH_MAX], struct files_error *e);

/**
 * files_request_path() - the file that a request means, once it is checked that it may be served
 * @operation:	as in files_request_read()
 *
 * Return: 0; -EPROTO with @e set.
 */
must_check int files_request_path(const struct agent *a, const struct http_head *head,
				  const char *operation, char out[PATH_MAX], struct files_error *e);

/** files_request_done() - free; idempotent on a zeroed one */
void files_request_done(struct files_request *r);

/** files_reply_error() - answer with an error */
void files_reply_error(struct http_exchange *x, const struct files_error *e);

/**
 * files_transfer_begin() - count one more transfer, which may need memory as long as it lasts
 *
 * Return: 0; -EPROTO with @e set (429): too many at once. files_transfer_end() ends it.
 */
must_check int files_transfer_begin(struct files_error *e);

/** files_transfer_end() - a transfer is over */
void files_transfer_end(void);
