/* SPDX-License-Identifier: Apache-2.0 */
/* Deadlines that only a fault lets pass: they are never what a test measures. */
#pragma once

#include <stdint.h>
#include <stdlib.h>

/** patient_ms() - a deadline, as many times longer as CK_TIMEOUT_MULTIPLIER says that check is to wait
 * for a test: where a sanitizer slows all of it down */
static inline uint64_t patient_ms(uint64_t ms)
{
	const char *factor = getenv("CK_TIMEOUT_MULTIPLIER");
	double f = factor != NULL ? strtod(factor, NULL) : 1;

	return f > 1 ? (uint64_t)((double)ms * f) : ms;
}
