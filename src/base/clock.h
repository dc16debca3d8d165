/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/macros.h"

enum { NS_PER_MS = 1000000, NS_PER_US = 1000, MS_PER_S = 1000 };
static const uint64_t NS_PER_S = 1000000000;

/** clock_now_ns() - CLOCK_MONOTONIC in nanoseconds; the only clock that deadlines use */
uint64_t clock_now_ns(void);

/** clock_realtime_ns() - nanoseconds since 1970; to hold other clocks against */
uint64_t clock_realtime_ns(void);

/** clock_realtime_ms() - milliseconds since 1970; for records and people only */
uint64_t clock_realtime_ms(void);

enum { CLOCK_RFC3339_SIZE = 40 };

/**
 * clock_rfc3339() - a time as RFC 3339 in UTC with milliseconds ("2026-01-02T03:04:05.006Z")
 * @realtime_ms:	milliseconds since 1970
 */
void clock_rfc3339(uint64_t realtime_ms, char out[CLOCK_RFC3339_SIZE]);

/**
 * clock_parse_rfc3339() - a time as RFC 3339, with any offset and any fraction of a second
 * @out_ms:	milliseconds since 1970; what is before 1970 is 0
 *
 * Return: 0; -EINVAL.
 */
must_check int clock_parse_rfc3339(const char *s, uint64_t *out_ms);
