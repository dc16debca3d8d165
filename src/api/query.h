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

/* A page of a list begins behind a place: by time, and by id among those of one time. */
enum { PAGE_TOKEN_SIZE = 160 };

/**
 * query_page() - the place of the parameter "nextToken", which page_token() wrote
 * @out_id:	the id as it is given, of @id_size bytes at most with its NUL
 *
 * Return: 1; 0 the list begins at its beginning; -errno with @e set (ERR_INVALID).
 */
must_check int query_page(const char *query, uint64_t *out_ms, char *out_id, size_t id_size,
			  struct err *e);

/** page_token() - what leads to the page behind a place */
void page_token(uint64_t ms, const char *id, char out[PAGE_TOKEN_SIZE]);

/**
 * query_choice() - one of some words
 * @words:	ended by NULL
 * @out:	its place among them; unchanged when absent
 *
 * Return: as query_u64(); the error names them all.
 */
must_check int query_choice(const char *query, const char *name, const char *const *words,
			    size_t *out, struct err *e);
