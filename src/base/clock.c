/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t clock_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t clock_realtime_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t clock_realtime_ms(void)
{
	return clock_realtime_ns() / NS_PER_MS;
}

void clock_rfc3339(uint64_t realtime_ms, char out[CLOCK_RFC3339_SIZE])
{
	time_t s = (time_t)(realtime_ms / MS_PER_S);
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(out, CLOCK_RFC3339_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(out + n, CLOCK_RFC3339_SIZE - n, ".%03uZ", (unsigned)(realtime_ms % MS_PER_S));
}

/* ".123456": its milliseconds. Return: what follows; NULL when a point has no digits. */
static const char *parse_fraction(const char *s, uint64_t *out_ms)
{
	uint64_t unit = 100;

	*out_ms = 0;
	if (*s != '.')
		return s;
	if (!isdigit((unsigned char)*++s))
		return NULL;
	for (; isdigit((unsigned char)*s); s++, unit /= 10)
		*out_ms += (uint64_t)(*s - '0') * unit;
	return s;
}

/* Two digits. Return: their number; one that is too large for anything if they are none. */
static int two_digits(const char *s)
{
	if (!isdigit((unsigned char)s[0]) || !isdigit((unsigned char)s[1]))
		return INT_MAX;
	return (s[0] - '0') * 10 + (s[1] - '0');
}

/* "Z" or "+02:30", to the end of the text. Return: 0; -EINVAL. */
static int parse_offset(const char *s, int64_t *out_s)
{
	int hours, minutes;

	*out_s = 0;
	if ((*s == 'Z' || *s == 'z') && s[1] == '\0')
		return 0;
	if ((*s != '+' && *s != '-') || strlen(s) != strlen("+02:30") || s[3] != ':')
		return -EINVAL;
	hours = two_digits(s + 1);
	minutes = two_digits(s + 4);
	if (hours > 23 || minutes > 59)
		return -EINVAL;
	*out_s = (int64_t)(hours * 60 + minutes) * 60 * (*s == '-' ? -1 : 1);
	return 0;
}

int clock_parse_rfc3339(const char *s, uint64_t *out_ms)
{
	struct tm tm = { 0 };
	uint64_t ms = 0;
	int64_t offset_s = 0;
	int64_t at_s;
	const char *rest;

	if (!isdigit((unsigned char)*s))
		return -EINVAL;
	rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	if (rest != NULL)
		rest = parse_fraction(rest, &ms);
	if (rest == NULL || parse_offset(rest, &offset_s) < 0)
		return -EINVAL;
	at_s = (int64_t)timegm(&tm) - offset_s;
	*out_ms = at_s < 0 ? 0 : (uint64_t)at_s * MS_PER_S + ms;
	return 0;
}
