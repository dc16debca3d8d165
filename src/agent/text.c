/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/text.h"

#include "base/str.h"

#include <stdlib.h>

static const char replacement[] = "\xef\xbf\xbd"; /* U+FFFD */

/* How many bytes the character at @s has (Unicode, table 3-7); 0 = it is none. */
static size_t character_bytes(const unsigned char *s)
{
	unsigned char low = 0x80;
	unsigned char high = 0xbf;
	size_t n = 0;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		n = 2;
	else if (s[0] >= 0xe0 && s[0] <= 0xef)
		n = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		n = 4;
	/* What a shorter form could say, surrogates, and what is above U+10FFFF. */
	if (s[0] == 0xe0)
		low = 0xa0;
	else if (s[0] == 0xed)
		high = 0x9f;
	else if (s[0] == 0xf0)
		low = 0x90;
	else if (s[0] == 0xf4)
		high = 0x8f;
	if (n == 0 || s[1] < low || s[1] > high)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

json_t *text_json(const char *s)
{
	json_t *json = json_string(s);
	auto_free char *repaired = NULL;
	size_t len = 0;

	if (json != NULL)
		return json;
	repaired = malloc(strlen(s) * strlen(replacement) + 1);
	if (repaired == NULL)
		return NULL;
	while (*s != '\0') {
		size_t n = character_bytes((const unsigned char *)s);
		const char *from = n > 0 ? s : replacement;
		size_t take = n > 0 ? n : strlen(replacement);

		memcpy(repaired + len, from, take);
		len += take;
		s += n > 0 ? n : 1;
	}
	return json_stringn(repaired, len);
}
