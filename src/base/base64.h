/* SPDX-License-Identifier: Apache-2.0 */
/* Base64 (RFC 4648), as protobuf's JSON carries bytes. */
#pragma once

#include "base/macros.h"

/* Characters that @n bytes take, without a NUL. */
#define BASE64_ENCODED_LEN(n) (((n) + 2) / 3 * 4)

/**
 * base64_encode() - standard alphabet, with padding
 * @out:	BASE64_ENCODED_LEN(@n) bytes; no NUL is added
 *
 * Return: the characters written.
 */
size_t base64_encode(const void *p, size_t n, char *out);

/**
 * base64_decode() - standard or URL-safe alphabet, padding optional, nothing else allowed
 * @out:	new memory that the caller frees, with a NUL behind the bytes
 * @out_n:	the bytes
 *
 * Return: 0; -EINVAL; -ENOMEM.
 */
must_check int base64_decode(const char *s, size_t n, char **out, size_t *out_n);
