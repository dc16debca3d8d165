/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The body of an upload on its way into files: decoded, taken apart, written. Blocking, for a
 * thread of the pool; nothing but the current piece is kept in memory.
 */
#pragma once

#include "agent/files-request.h"
#include "agent/metadata.h"

#include <jansson.h>

struct agent;
struct upload;

/**
 * upload_new() - begin
 * @request:	borrowed
 * @metadata:	of all files; borrowed
 * @out:	upload_free() frees it
 *
 * Loop thread. Return: 0; -EPROTO with @e set.
 */
must_check int upload_new(const struct agent *a, const struct http_head *head,
			  const struct files_request *request,
			  const struct metadata_items *metadata, struct upload **out,
			  struct files_error *e);

/** upload_feed() - the next piece of the body. Return: 0; -EPROTO with @e set */
must_check int upload_feed(struct upload *u, const char *p, size_t n, struct files_error *e);

/**
 * upload_finish() - the body is complete
 * @out:	what was written: [{path, name, type, metadata?}], a new reference
 *
 * Return: 0; -EPROTO with @e set.
 */
must_check int upload_finish(struct upload *u, json_t **out, struct files_error *e);

/** upload_free() - free; NULL is allowed */
void upload_free(struct upload *u);
