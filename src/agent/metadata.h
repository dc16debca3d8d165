/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients attach to files: "X-Metadata-<key>: <value>" of an upload is kept as the extended
 * attribute user.e2b.<key>.
 */
#pragma once

#include "agent/files-error.h"
#include "base/vec.h"

#include <jansson.h>

struct http_head;

struct metadata_item {
	char *key; /* in lower case */
	char *value;
};

VEC_DEFINE(metadata_items, struct metadata_item)

/**
 * metadata_parse() - take the metadata out of a request's headers
 * @out:	emptied before; metadata_done() frees it
 *
 * Return: 0; -EPROTO with @e set (400).
 */
must_check int metadata_parse(const struct http_head *head, struct metadata_items *out,
			      struct files_error *e);

/**
 * metadata_store() - make these the whole metadata of a file
 * @path:	names the file in an error
 *
 * Return: 0; -EPROTO with @e set.
 */
must_check int metadata_store(int fd, const char *path, const struct metadata_items *items,
			      struct files_error *e);

/** metadata_json() - {key: value}; a new reference */
json_t *metadata_json(const struct metadata_items *items);

/** metadata_read() - {key: value} of the file at @path, links followed; a new reference; NULL
 * without any */
json_t *metadata_read(const char *path);

/** metadata_done() - free; idempotent on a zeroed one */
void metadata_done(struct metadata_items *items);

#define auto_metadata cleanup(metadata_done) struct metadata_items
