/* SPDX-License-Identifier: Apache-2.0 */
/* What is shown to people. */
#pragma once

#include <stdint.h>

/** struct size_text - a size as text, to be passed on by value: printf("%6s", size_text(n).s) */
struct size_text {
	char s[8];
};

/** size_text() - @bytes in the largest unit that leaves a number, of 1024 each: "0K", "1.5M" or
 * "512M" */
struct size_text size_text(uint64_t bytes);

/** plain_text() - words of a guest's for a terminal, with '?' for what would command it; caller
 * frees */
char *plain_text(const char *text);
