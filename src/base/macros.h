/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The result of every fallible function must be looked at; ignore_err() is the one way not to. */
#define must_check        __attribute__((warn_unused_result))
#define printf_like(f, a) __attribute__((format(printf, f, a)))
#define cleanup(f)        __attribute__((cleanup(f)))

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)     ((a) < (b) ? (a) : (b))
#define MAX(a, b)     ((a) > (b) ? (a) : (b))

#define container_of(p, type, member) ((type *)(void *)((char *)(p)-offsetof(type, member)))

/**
 * ignore_err() - drop the result of a fallible call; the reason stands in a comment beside it
 * @r:	the result
 */
static inline void ignore_err(int r)
{
	(void)r;
}

/* take_ptr(&p): the value of p, which is NULL from then on: ownership moves out of this scope. */
#define take_ptr(pp)                                                                               \
	({                                                                                         \
		__typeof__(*(pp)) taken_ = *(pp);                                                  \
		*(pp) = NULL;                                                                      \
		taken_;                                                                            \
	})
