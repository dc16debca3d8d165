/* SPDX-License-Identifier: Apache-2.0 */
/* Parameters of a query string, read strictly: what is wrong is refused by its name. */
#pragma once

#include "base/err.h"

/** query_text() - one parameter, decoded; caller frees *@out, which stays when it is absent.
 * Return: 0; -errno with @e set (ERR_INVALID) */
must_check int query_text(const char *query, const char *name, char **out, struct err *e);

/**
 * query_u64() - a number in [@min, @max]
 * @out:	unchanged when absent
 *
 * Return: 1 it is there; 0 absent; -errno with @e set (ERR_INVALID).
 */
must_check int query_u64(const char *query, const char *name, uint64_t min, uint64_t max,
			 uint64_t *out, struct err *e);

/**
 * query_choice() - one of some words
 * @words:	ended by NULL
 * @out:	its place among them; unchanged when absent
 *
 * Return: as query_u64(); the error names them all.
 */
must_check int query_choice(const char *query, const char *name, const char *const *words,
			    size_t *out, struct err *e);
