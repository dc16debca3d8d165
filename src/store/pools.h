/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How many sandboxes are kept ready of which template. Only the wish is kept: those that are ready
 * are rows of sandboxes in the state DB_READY, which end with the daemon.
 */
#pragma once

#include "store/db.h"

struct db_pool {
	char template_name[NAME_MAX_LEN + 1];
	unsigned cpus;       /* of each of its sandboxes; 0 = the default of the day */
	uint64_t memory_mib; /* as above */
	uint64_t disk_mib;   /* as above */
	unsigned size;       /* how many; > 0 */
};

/** db_pool_set() - keep a template's pool, in place of the one it had. Return: 0; -errno with @e
 * set */
must_check int db_pool_set(struct db *db, const struct db_pool *pool, struct err *e);

/** db_pool_delete() - forget a template's pool. Return: 0 (also if absent); -errno with @e set */
must_check int db_pool_delete(struct db *db, const char *template_name, struct err *e);

/** db_pool_each() - read all pools by name; @fn ends the walk with < 0, and does not change the
 * store. Return: 0; what @fn returned; -errno with @e set */
must_check int db_pool_each(struct db *db, int (*fn)(const struct db_pool *pool, void *arg),
			    void *arg, struct err *e);
