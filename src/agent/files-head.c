/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/files-head.h"

#include "base/parse.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <strings.h>

enum { RANGE_TEXT_SIZE = 64 };

/* "-N": the last bytes. */
static int suffix_range(const char *text, uint64_t size, uint64_t *out_first, uint64_t *out_n)
{
	uint64_t n;

	if (parse_u64(text, 0, UINT64_MAX, &n) < 0 || size == 0)
		return 0;
	if (n == 0)
		return -ERANGE;
	*out_n = MIN(n, size);
	*out_first = size - *out_n;
	return 1;
}

int files_range_parse(const char *value, uint64_t size, uint64_t *out_first, uint64_t *out_n)
{
	static const char unit[] = "bytes=";
	char text[RANGE_TEXT_SIZE];
	uint64_t first;
	uint64_t last = UINT64_MAX;
	char *dash;

	if (value == NULL || strncasecmp(value, unit, strlen(unit)) != 0 ||
	    str_fit(text, sizeof(text), "%s", value + strlen(unit)) < 0)
		return 0;
	if (text[0] == '-')
		return suffix_range(text + 1, size, out_first, out_n);
	dash = strchr(text, '-');
	if (dash == NULL)
		return 0;
	*dash = '\0';
	if (parse_u64(text, 0, INT64_MAX, &first) < 0 ||
	    (dash[1] != '\0' && parse_u64(dash + 1, first, UINT64_MAX, &last) < 0))
		return 0;
	if (first >= size)
		return -ERANGE;
	*out_first = first;
	*out_n = MIN(last, size - 1) - first + 1;
	return 1;
}

/* Whether the parameters of a coding say that it is not wanted: "q=0", "q=0.000". */
static bool quality_is_zero(const char *params, const char *end)
{
	for (; params < end; params++) {
		if (*params != 'q' && *params != 'Q')
			continue;
		params++;
		if (*params++ != '=' || *params++ != '0')
			return false;
		params += strspn(params, ".0");
		return params >= end || strchr(" \t;,", *params) != NULL;
	}
	return false;
}

bool files_identity_ok(const char *value)
{
	bool ok = true;

	for (const char *at = value != NULL ? value : ""; *at != '\0';) {
		const char *end = at + strcspn(at, ",");
		const char *name = at + strspn(at, " \t");
		size_t n = strcspn(name, " \t;,");

		if (n == strlen("identity") && strncasecmp(name, "identity", n) == 0)
			return !quality_is_zero(name + n, end);
		if (n == 1 && name[0] == '*')
			ok = !quality_is_zero(name + n, end);
		at = *end != '\0' ? end + 1 : end;
	}
	return ok;
}

void files_date(time_t t, char out[FILES_DATE_SIZE])
{
	struct tm tm;

	if (gmtime_r(&t, &tm) == NULL ||
	    strftime(out, FILES_DATE_SIZE, "%a, %d %b %Y %H:%M:%S GMT", &tm) == 0)
		out[0] = '\0';
}

static bool is_plain(const char *name)
{
	for (; *name != '\0'; name++)
		if (*name < ' ' || *name > '~')
			return false;
	return true;
}

/* As a quoted string. */
static void put_quoted(const char *name, char *out, size_t size)
{
	size_t n = 0;

	out[n++] = '"';
	for (; *name != '\0' && n + 4 < size; name++) {
		if (*name == '"' || *name == '\\')
			out[n++] = '\\';
		out[n++] = *name;
	}
	out[n++] = '"';
	out[n] = '\0';
}

/* As RFC 8187 has it: all but letters, digits and some marks percent-encoded. */
static void put_encoded(const char *name, char *out, size_t size)
{
	static const char hex[] = "0123456789ABCDEF";
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
				    "!#$&+-.^_`|~";
	size_t n = 0;

	for (; *name != '\0' && n + 4 < size; name++) {
		unsigned char c = (unsigned char)*name;

		if (strchr(plain, c) != NULL) {
			out[n++] = (char)c;
			continue;
		}
		out[n++] = '%';
		out[n++] = hex[c >> 4];
		out[n++] = hex[c & 15];
	}
	out[n] = '\0';
}

void files_disposition(const char *name, char out[FILES_DISPOSITION_SIZE])
{
	static const char quoted[] = "inline; filename=";
	static const char encoded[] = "inline; filename*=UTF-8''";
	bool plain = is_plain(name);
	const char *head = plain ? quoted : encoded;
	size_t n = strlen(head);

	str_copy(out, FILES_DISPOSITION_SIZE, head);
	if (plain)
		put_quoted(name, out + n, FILES_DISPOSITION_SIZE - n);
	else
		put_encoded(name, out + n, FILES_DISPOSITION_SIZE - n);
}
