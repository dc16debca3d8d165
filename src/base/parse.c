/* SPDX-License-Identifier: Apache-2.0 */
#include "base/parse.h"

#include "base/limits.h"
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

struct unit {
	const char *name; /* behind the number */
	uint64_t worth;
};

static int parse_units(const char *s, const struct unit *units, size_t n, uint64_t *out)
{
	const char *end;
	uint64_t v;
	int r = read_digits(s, &end, &v);

	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		if (!streq(end, units[i].name))
			continue;
		if (__builtin_mul_overflow(v, units[i].worth, &v))
			return -ERANGE;
		*out = v;
		return 0;
	}
	return -EINVAL;
}

int parse_size_mib(const char *s, uint64_t *out_mib)
{
	static const struct unit units[] = {
		{ "", 1 },       { "M", 1 },           { "MiB", 1 },           { "G", 1024 },
		{ "GiB", 1024 }, { "T", 1024 * 1024 }, { "TiB", 1024 * 1024 },
	};

	return parse_units(s, units, ARRAY_SIZE(units), out_mib);
}

int parse_duration_s(const char *s, uint64_t *out_s)
{
	static const struct unit units[] = {
		{ "", 1 }, { "s", 1 }, { "m", 60 }, { "h", 3600 }, { "d", 86400 },
	};
	uint64_t seconds;
	int r = parse_units(s, units, ARRAY_SIZE(units), &seconds);

	if (r == 0 && seconds == 0)
		return -ERANGE;
	if (r == 0)
		*out_s = seconds;
	return r;
}

int parse_restart(const char *s, uint64_t *out_tries)
{
	static const char on_failure[] = "on-failure";
	const char *rest = s + strlen(on_failure);

	if (streq(s, "no")) {
		*out_tries = 0;
		return 0;
	}
	if (!str_starts(s, on_failure))
		return -EINVAL;
	if (rest[0] == ':')
		return parse_u64(rest + 1, 1, RESTARTS_MAX, out_tries);
	if (rest[0] != '\0')
		return -EINVAL;
	*out_tries = RESTARTS_USUAL;
	return 0;
}

/* What is behind the key in the first line that begins with it; NULL = none does. */
static const char *behind_key(const char *text, const char *key)
{
	size_t n = strlen(key);

	for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) == 0 && line[n] == ' ')
			return line + n;
	}
	return NULL;
}

int parse_keyed(const char *text, const char *key, uint64_t *out)
{
	const char *at = behind_key(text, key);
	const char *end;
	uint64_t v;
	int r;

	if (at == NULL)
		return -ENOENT;
	r = read_digits(at + strspn(at, " "), &end, &v);
	if (r < 0)
		return r;
	if (*end != '\0' && *end != ' ' && *end != '\n')
		return -EINVAL;
	*out = v;
	return 0;
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
