/* SPDX-License-Identifier: Apache-2.0 */
/* The keys that leave a terminal: found in what is typed, never passed on. */
#pragma once

#include "base/macros.h"

enum { DETACH_KEYS_MAX = 16 };

/* Zeroed = no keys leave. */
struct detach {
	char keys[DETACH_KEYS_MAX];
	size_t n;
	size_t held; /* how many of them were typed, and are kept back until it is clear why */
};

#define DETACH_DEFAULT "ctrl-p,ctrl-q"

/**
 * detach_parse() - read a list of keys
 * @text:	"ctrl-p,ctrl-q": characters, or ctrl- and one of a-z @ [ \ ] ^ _, with commas
 *		between them; "" = no keys
 *
 * Return: 0; -EINVAL.
 */
must_check int detach_parse(struct detach *d, const char *text);

/**
 * detach_filter() - look for the keys in what was typed
 * @in:		@n bytes
 * @out:	room for @n + DETACH_KEYS_MAX bytes: what is to be passed on
 * @out_n:	their number
 *
 * Return: whether the keys were typed; what came behind them is dropped.
 */
bool detach_filter(struct detach *d, const char *in, size_t n, char *out, size_t *out_n);
