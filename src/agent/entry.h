/* SPDX-License-Identifier: Apache-2.0 */
/* What clients are told of a file: filesystem.EntryInfo. */
#pragma once

#include "agent/owners.h"

#include <jansson.h>
#include <sys/stat.h>

enum { ENTRY_PERMISSIONS_SIZE = 16, ENTRY_TIME_SIZE = 96 };

/** entry_permissions() - a mode as Go writes it: "-rw-r--r--", "drwxr-xr-x", "Lrwxrwxrwx" */
void entry_permissions(mode_t mode, char out[ENTRY_PERMISSIONS_SIZE]);

/** entry_time() - RFC 3339 in UTC with nanoseconds; "" for a year that it does not have */
void entry_time(const struct timespec *t, char out[ENTRY_TIME_SIZE]);

/**
 * entry_json() - describe a file
 * @path:	absolute and clean; a link itself is described, with type and mode of what it leads
 *		to
 * @owners:	remembers names between calls
 * @out:	a new reference
 *
 * Return: 0; -errno of lstat(2), -ENOMEM.
 */
must_check int entry_json(const char *path, struct owners *owners, json_t **out);
