/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macros.h"

#include <stdarg.h>
#include <string.h>

/** streq() - string equality */
static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

/** str_starts() - whether @s begins with @prefix */
static inline bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

/** str_ends() - whether @s ends with @suffix */
bool str_ends(const char *s, const char *suffix);

/**
 * str_printf() - format into new memory
 * @fmt:	printf format
 *
 * Small sizes of ours only; nothing that a client sizes (that is for buf). Aborts without memory.
 * Return: the string; the caller frees it.
 */
char *str_printf(const char *fmt, ...) printf_like(1, 2);

/** str_dup() - a copy in new memory, which the caller frees; aborts without memory */
char *str_dup(const char *s);

/**
 * str_fit() - format into a fixed array, refusing what does not fit
 * @dst:	array of @size bytes; "" on failure
 *
 * Return: 0; -ENAMETOOLONG.
 */
must_check int str_fit(char *dst, size_t size, const char *fmt, ...) printf_like(3, 4);

/**
 * str_copy() - copy into a fixed array, cutting what does not fit
 * @dst:	array of @size >= 1 bytes; always terminated
 */
void str_copy(char *dst, size_t size, const char *src);

/** xcalloc() - zeroed memory for @n objects of @size; aborts without memory; caller frees */
void *xcalloc(size_t n, size_t size);

/** free_ptr() - clean-up handler behind auto_free */
void free_ptr(void *pp);

#define auto_free cleanup(free_ptr)
