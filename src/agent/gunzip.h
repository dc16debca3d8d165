/* SPDX-License-Identifier: Apache-2.0 */
/* Decoding of gzip (RFC 1952) in any pieces, with as many members as there are. No I/O. */
#pragma once

#include "base/macros.h"

struct gunzip;

/** gunzip_new() - a decoder; NULL without memory; gunzip_free() frees it */
struct gunzip *gunzip_new(void);

/**
 * gunzip_next() - decode on
 * @p, @n:	the bytes left; moved on by what was used
 * @out:	decoded bytes, borrowed until the next call
 * @out_n:	how many; 0 = @n is used up
 *
 * Return: 0; -EBADMSG this is no gzip, or it is damaged; -ENOMEM.
 */
must_check int gunzip_next(struct gunzip *g, const char **p, size_t *n, const char **out,
			   size_t *out_n);

/** gunzip_is_complete() - whether all that was begun is at its end */
bool gunzip_is_complete(const struct gunzip *g);

/** gunzip_free() - free; NULL is allowed */
void gunzip_free(struct gunzip *g);
