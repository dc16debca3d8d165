/* SPDX-License-Identifier: Apache-2.0 */
/* Character classes and decoding that the files of the codec share. */
#pragma once

#include "base/macros.h"

#include <string.h>

/* A character of a method or a header name (RFC 9110 section 5.6.2). */
static inline bool http_is_token(char c)
{
	if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'))
		return true;
	return c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
}

/* A byte of a header value, a reason phrase or a chunk extension: no control but the tab. */
static inline bool http_is_text(char c)
{
	unsigned char u = (unsigned char)c;

	return u == '\t' || (u >= ' ' && u != 0x7f);
}

/* A character of a request target. A fragment never travels, and bytes >= 0x80 must be escaped. */
static inline bool http_is_target(char c)
{
	return c > ' ' && c < 0x7f && c != '#';
}

static inline bool http_is_blank(char c)
{
	return c == ' ' || c == '\t';
}

/* The value of a hexadecimal digit, or -1. */
static inline int http_hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/**
 * http_decode_byte() - take one byte off percent-encoded text
 * @at:		advanced past it; *@at < @end
 * @plus:	whether '+' is a blank
 *
 * Return: 1 to 255; -EBADMSG a bad escape or a NUL byte.
 */
int http_decode_byte(const char **at, const char *end, bool plus);
