/* SPDX-License-Identifier: Apache-2.0 */
#include "base/parse.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

/* Reads digits only; *@end is where they stop. */
static int read_digits(const char *s, const char **end, uint64_t *out)
{
	uint64_t v = 0;
	const char *p = s;

	for (; *p >= '0' && *p <= '9'; p++) {
		if (__builtin_mul_overflow(v, 10U, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return -ERANGE;
	}
	if (p == s)
		return -EINVAL;
	*end = p;
	*out = v;
	return 0;
}

int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out)
{
	const char *end;
	uint64_t v;
	int r = read_digits(s, &end, &v);

	if (r < 0)
		return r;
	if (*end != '\0')
		return -EINVAL;
	if (v < min || v > max)
		return -ERANGE;
	*out = v;
	return 0;
}

int parse_hex_u32(const char *s, uint32_t *out)
{
	size_t n = strlen(s);

	if (n < 1 || n > 8 || strspn(s, "0123456789abcdefABCDEF") != n)
		return -EINVAL;
	*out = (uint32_t)strtoull(s, NULL, 16);
	return 0;
}

int parse_size_mib(const char *s, uint64_t *out_mib)
{
	static const struct {
		const char *unit;
		uint64_t mib;
	} units[] = {
		{ "", 1 },       { "M", 1 },           { "MiB", 1 },           { "G", 1024 },
		{ "GiB", 1024 }, { "T", 1024 * 1024 }, { "TiB", 1024 * 1024 },
	};
	const char *end;
	uint64_t v;
	uint64_t mib;
	int r = read_digits(s, &end, &v);

	if (r < 0)
		return r;
	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		if (!streq(end, units[i].unit))
			continue;
		if (__builtin_mul_overflow(v, units[i].mib, &mib))
			return -ERANGE;
		*out_mib = mib;
		return 0;
	}
	return -EINVAL;
}

int parse_bool(const char *s, bool *out)
{
	static const char *const yes[] = { "true", "yes", "on", "1" };
	static const char *const no[] = { "false", "no", "off", "0" };

	for (size_t i = 0; i < ARRAY_SIZE(yes); i++) {
		if (streq(s, yes[i]) || streq(s, no[i])) {
			*out = streq(s, yes[i]);
			return 0;
		}
	}
	return -EINVAL;
}
