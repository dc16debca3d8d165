/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/text.h"

#include "base/str.h"

enum { KIB = 1024 };

struct size_text size_text(uint64_t bytes)
{
	static const char units[] = "KMGTPE";
	struct size_text text = { "" };
	double n = (double)bytes / KIB;
	size_t unit = 0;

	/* What would be shown as 1024 is 1.0 of the next one. */
	while (n >= KIB - 0.5 && units[unit + 1] != '\0') {
		n /= KIB;
		unit++;
	}
	ignore_err(str_fit(text.s, sizeof(text.s), "%.*f%c", n < 9.95 && unit > 0 ? 1 : 0, n,
			   units[unit])); /* fits: at most 1023 and a unit */
	return text;
}

char *plain_text(const char *text)
{
	char *plain = str_dup(text);

	for (char *p = plain; *p != '\0'; p++) {
		if (((unsigned char)*p < ' ' && *p != '\n' && *p != '\t') || *p == 0x7f)
			*p = '?';
	}
	return plain;
}
