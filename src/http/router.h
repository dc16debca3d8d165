/* SPDX-License-Identifier: Apache-2.0 */
/* Finds the handler of a method and path in a const table of patterns. */
#pragma once

#include "http/server.h"

enum { ROUTE_PARAMS_MAX = 4, ROUTE_PARAM_SIZE = 256 };

/* Path parameters, percent-decoded, in the order of the {names} in the pattern. */
struct route_params {
	char at[ROUTE_PARAMS_MAX][ROUTE_PARAM_SIZE];
	size_t n;
};

typedef void (*route_fn)(struct http_exchange *x, const struct route_params *params, void *arg);

struct route {
	const char *method;  /* "GET" */
	const char *pattern; /* "/sandboxes/{id}/timeout"; a {name} matches one whole segment */
	route_fn fn;
};

/**
 * route_find() - look a request up
 * @out_params:	filled when found
 * @out_allow:	comma list of the methods that the path has, for a 405; buffer of @allow_size bytes
 *
 * Return: the route; NULL with "" in @out_allow (404) or with methods there (405). A bad escape in
 * a segment matches nothing.
 */
const struct route *route_find(const struct route *table, size_t n, const struct http_head *head,
			       struct route_params *out_params, char *out_allow, size_t allow_size);
