/* SPDX-License-Identifier: Apache-2.0 */
/* Percent-encoding and query strings. */
#include "base/str.h"
#include "http/codec-internal.h"
#include "http/codec.h"

#include <errno.h>
#include <stdlib.h>

int http_decode_byte(const char **at, const char *end, bool plus)
{
	const char *s = *at;
	int c = (unsigned char)*s;

	*at = s + 1;
	if (c == '%') {
		int high = end - s > 2 ? http_hex_value(s[1]) : -1;
		int low = end - s > 2 ? http_hex_value(s[2]) : -1;

		if (high < 0 || low < 0)
			return -EBADMSG;
		c = high << 4 | low;
		*at = s + 3;
	} else if (c == '+' && plus) {
		c = ' ';
	}
	return c != 0 ? c : -EBADMSG;
}

int http_percent_decode(const char *s, size_t n, bool plus, char **out)
{
	auto_free char *text = malloc(n + 1);
	const char *end = s + n;
	size_t len = 0;

	if (text == NULL)
		return -ENOMEM;
	while (s < end) {
		int c = http_decode_byte(&s, end, plus);

		if (c < 0)
			return c;
		text[len++] = (char)c;
	}
	text[len] = '\0';
	*out = take_ptr(&text);
	return 0;
}

/* Whether the encoded text from @s to @end reads as @name. Return: 1; 0; -EBADMSG. */
static int decodes_to(const char *s, const char *end, const char *name)
{
	while (s < end) {
		int c = http_decode_byte(&s, end, true);

		if (c < 0)
			return c;
		if (c != (unsigned char)*name)
			return 0;
		name++;
	}
	return *name == '\0';
}

int http_query_get(const char *query, const char *name, char **out)
{
	const char *end;

	for (const char *at = query; *at != '\0'; at = *end != '\0' ? end + 1 : end) {
		const char *name_end = at + strcspn(at, "=&");
		int r = decodes_to(at, name_end, name);

		end = name_end + strcspn(name_end, "&");
		if (r < 0)
			return r;
		if (r == 0 || name_end == at)
			continue;
		if (*name_end == '=')
			name_end++;
		r = http_percent_decode(name_end, (size_t)(end - name_end), true, out);
		return r < 0 ? r : 1;
	}
	return 0;
}
