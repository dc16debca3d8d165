/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed growable arrays. VEC_DEFINE(ints, int) makes `struct ints { int *at; size_t n, cap; }`
 * with ints_push() (aborts without memory: for counts of ours, never a client's) and ints_done().
 */
#pragma once

#include "base/macros.h"

#include <stdlib.h>

#define VEC_DEFINE(name, type)                                                                     \
	struct name {                                                                              \
		type *at;                                                                          \
		size_t n;                                                                          \
		size_t cap;                                                                        \
	};                                                                                         \
	static inline void name##_push(struct name *v, type item)                                  \
	{                                                                                          \
		if (v->n == v->cap) {                                                              \
			v->cap = v->cap != 0 ? v->cap * 2 : 8;                                     \
			v->at = reallocarray(v->at, v->cap, sizeof(type));                         \
			if (v->at == NULL)                                                         \
				abort();                                                           \
		}                                                                                  \
		v->at[v->n++] = item;                                                              \
	}                                                                                          \
	static inline void name##_done(struct name *v)                                             \
	{                                                                                          \
		free(v->at);                                                                       \
		*v = (struct name){ 0 };                                                           \
	}

/* An empty vec has no array at all: nothing may be added to its NULL. */
#define vec_foreach(item, v) /* NOLINTNEXTLINE(bugprone-macro-parentheses): it is declared */      \
	for (__typeof__((v)->at + 0) item = (v)->at; item != NULL && item < (v)->at + (v)->n;      \
	     (item)++)
