/* SPDX-License-Identifier: Apache-2.0 */
#include "base/base64.h"

#include <errno.h>
#include <stdlib.h>

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

size_t base64_encode(const void *p, size_t n, char *out)
{
	const uint8_t *in = p;
	char *start = out;

	for (; n >= 3; n -= 3, in += 3) {
		*out++ = alphabet[in[0] >> 2];
		*out++ = alphabet[(in[0] & 3) << 4 | in[1] >> 4];
		*out++ = alphabet[(in[1] & 15) << 2 | in[2] >> 6];
		*out++ = alphabet[in[2] & 63];
	}
	if (n > 0) {
		uint8_t second = n > 1 ? in[1] : 0;

		*out++ = alphabet[in[0] >> 2];
		*out++ = alphabet[(in[0] & 3) << 4 | second >> 4];
		*out++ = n > 1 ? alphabet[(second & 15) << 2] : '=';
		*out++ = '=';
	}
	return (size_t)(out - start);
}

/* The six bits of a character; -1 for one of no alphabet. */
static int sextet(char c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == '+' || c == '-')
		return 62;
	if (c == '/' || c == '_')
		return 63;
	return -1;
}

/* The length without padding, which must fill up to a multiple of four when there is any. */
static int unpadded_len(const char *s, size_t *n)
{
	size_t len = *n;

	while (len > 0 && *n - len < 2 && s[len - 1] == '=')
		len--;
	if (len != *n && *n % 4 != 0)
		return -EINVAL;
	if (len % 4 == 1)
		return -EINVAL;
	*n = len;
	return 0;
}

int base64_decode(const char *s, size_t n, char **out, size_t *out_n)
{
	uint32_t bits = 0;
	unsigned n_bits = 0;
	size_t len = 0;
	char *bytes;

	if (unpadded_len(s, &n) < 0)
		return -EINVAL;
	bytes = malloc(n / 4 * 3 + 3);
	if (bytes == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		int six = sextet(s[i]);

		if (six < 0) {
			free(bytes);
			return -EINVAL;
		}
		bits = bits << 6 | (uint32_t)six;
		n_bits += 6;
		if (n_bits < 8)
			continue;
		n_bits -= 8;
		bytes[len++] = (char)(bits >> n_bits);
	}
	bytes[len] = '\0';
	*out = bytes;
	*out_n = len;
	return 0;
}
