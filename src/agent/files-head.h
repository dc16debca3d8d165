/* SPDX-License-Identifier: Apache-2.0 */
/* The headers around a file that is downloaded. */
#pragma once

#include "base/macros.h"

#include <time.h>

/**
 * files_range_parse() - read a Range header
 * @value:	NULL = absent
 * @size:	of the file
 * @out_first:	offset of the first byte
 * @out_n:	bytes, at least one
 *
 * What is not one range of bytes is no error: it is ignored (RFC 9110, section 14.2).
 * Return: 1 a part; 0 the whole file; -ERANGE nothing of the file is in the range (416).
 */
must_check int files_range_parse(const char *value, uint64_t size, uint64_t *out_first,
				 uint64_t *out_n);

/** files_identity_ok() - whether a client accepts bytes as they are; @value is its Accept-Encoding
 */
bool files_identity_ok(const char *value);

enum { FILES_DATE_SIZE = 40, FILES_DISPOSITION_SIZE = 1024 };

/** files_date() - a time as HTTP has it ("Sun, 06 Nov 1994 08:49:37 GMT"); "" if it cannot be */
void files_date(time_t t, char out[FILES_DATE_SIZE]);

/**
 * files_disposition() - Content-Disposition with the name of a file (at most 255 bytes)
 *
 * A name of other bytes than ASCII is percent-encoded, with "UTF-8" as the usual claim.
 */
void files_disposition(const char *name, char out[FILES_DISPOSITION_SIZE]);
