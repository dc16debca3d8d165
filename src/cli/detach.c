/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/detach.h"

#include "base/str.h"

#include <errno.h>

/* One key. Return: how many characters of @text it takes; 0 it is none. */
static size_t parse_key(const char *text, char *out)
{
	static const char prefix[] = "ctrl-";
	size_t n = strlen(prefix);
	char c = text[0];

	if (str_starts(text, prefix)) {
		c = text[n];
		if (c >= 'A' && c <= 'Z')
			c = (char)(c - 'A' + 'a');
		if (!(c >= 'a' && c <= 'z') && (c == '\0' || strchr("@[\\]^_", c) == NULL))
			return 0;
		*out = (char)(c & 0x1f);
		return n + 1;
	}
	if (c <= ' ' || c > '~' || c == ',')
		return 0;
	*out = c;
	return 1;
}

int detach_parse(struct detach *d, const char *text)
{
	struct detach keys = { 0 };

	while (*text != '\0') {
		size_t used = keys.n < DETACH_KEYS_MAX ? parse_key(text, &keys.keys[keys.n]) : 0;

		if (used == 0 || (text[used] != '\0' && text[used] != ','))
			return -EINVAL;
		text += used;
		keys.n++;
		if (*text == ',' && *++text == '\0')
			return -EINVAL;
	}
	*d = keys;
	return 0;
}

/* How many of the keys that are held are the first ones again, if the oldest are let go. */
static size_t shorter(const struct detach *d)
{
	size_t n = d->held - 1;

	while (n > 0 && memcmp(d->keys, d->keys + d->held - n, n) != 0)
		n--;
	return n;
}

bool detach_filter(struct detach *d, const char *in, size_t n, char *out, size_t *out_n)
{
	size_t len = 0;

	for (size_t i = 0; i < n && (d->n == 0 || d->held < d->n); i++) {
		while (d->held > 0 && d->keys[d->held] != in[i]) {
			size_t keep = shorter(d);

			memcpy(out + len, d->keys, d->held - keep);
			len += d->held - keep;
			d->held = keep;
		}
		if (d->n > 0 && d->keys[d->held] == in[i])
			d->held++;
		else
			out[len++] = in[i];
	}
	*out_n = len;
	return d->n > 0 && d->held == d->n;
}
