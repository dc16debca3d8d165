/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that should be text: file names and messages with names in them. */
#pragma once

#include "base/macros.h"

#include <jansson.h>

/**
 * text_json() - a JSON string of bytes that may be no UTF-8
 *
 * Names of files are bytes, JSON is Unicode: each byte that is no part of a valid character becomes
 * U+FFFD. Such a name can be read by people, but not be given back: what it names is reached by the
 * bytes themselves (percent-encoded in a URL) or through its directory.
 *
 * Return: a new reference; NULL without memory.
 */
json_t *text_json(const char *s);
