/* SPDX-License-Identifier: Apache-2.0 */
#include "http/router.h"

#include "base/str.h"
#include "http/codec-internal.h"

#include <errno.h>

/* Decodes a segment of a path. Return: 0; -ENAMETOOLONG; -EBADMSG. */
static int decode_segment(const char *s, size_t n, char out[ROUTE_PARAM_SIZE])
{
	const char *end = s + n;
	size_t len = 0;

	while (s < end) {
		int c = http_decode_byte(&s, end, false);

		if (c < 0)
			return c;
		if (len == ROUTE_PARAM_SIZE - 1)
			return -ENAMETOOLONG;
		out[len++] = (char)c;
	}
	out[len] = '\0';
	return 0;
}

/* Compares the segment at @path with the one at @pattern; a {name} takes it as a parameter. */
static bool match_segment(const char *pattern, size_t pattern_len, const char *path,
			  struct route_params *params)
{
	size_t path_len = strcspn(path, "/");
	char text[ROUTE_PARAM_SIZE];

	if (decode_segment(path, path_len, text) < 0)
		return false;
	if (pattern[0] != '{')
		return strlen(text) == pattern_len && memcmp(text, pattern, pattern_len) == 0;
	if (text[0] == '\0')
		return false;
	assert(params->n < ROUTE_PARAMS_MAX);
	str_copy(params->at[params->n++], ROUTE_PARAM_SIZE, text);
	return true;
}

/* Both begin with '/' and are walked one "/segment" at a time. */
static bool match(const char *pattern, const char *path, struct route_params *params)
{
	params->n = 0;
	while (*pattern == '/' && *path == '/') {
		size_t len = strcspn(++pattern, "/");

		path++;
		if (!match_segment(pattern, len, path, params))
			return false;
		pattern += len;
		path += strcspn(path, "/");
	}
	return *pattern == '\0' && *path == '\0';
}

/* Adds a method to a comma list that does not have it; one that does not fit is left out. */
static void allow_method(char *list, size_t size, const char *method)
{
	size_t used = strlen(list);
	size_t n = strlen(method);
	const char *at = list;

	while ((at = strstr(at, method)) != NULL) {
		if ((at == list || at[-1] == ' ') && (at[n] == '\0' || at[n] == ','))
			return;
		at += n;
	}
	ignore_err(str_fit(list + used, size - used, "%s%s", used > 0 ? ", " : "", method));
}

const struct route *route_find(const struct route *table, size_t n, const struct http_head *head,
			       struct route_params *out_params, char *out_allow, size_t allow_size)
{
	struct route_params params;

	out_allow[0] = '\0';
	for (const struct route *route = table; route < table + n; route++) {
		if (!match(route->pattern, head->path, &params))
			continue;
		if (streq(route->method, head->method)) {
			out_allow[0] = '\0';
			*out_params = params;
			return route;
		}
		allow_method(out_allow, allow_size, route->method);
	}
	return NULL;
}
