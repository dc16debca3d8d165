/* SPDX-License-Identifier: Apache-2.0 */
/* Typed parsers: the whole string is the value, or it is an error. No leading blanks, no sign. */
#pragma once

#include "base/macros.h"

/** parse_u64() - a decimal number in [@min, @max]. Return: 0; -EINVAL no number; -ERANGE */
must_check int parse_u64(const char *s, uint64_t min, uint64_t max, uint64_t *out);

/** parse_hex_u32() - one to eight hex digits, of either case. Return: 0; -EINVAL */
must_check int parse_hex_u32(const char *s, uint32_t *out);

/**
 * parse_size_mib() - a size in MiB: "512", "512M", "512MiB", "2G", "2GiB", "1T" (powers of 1024)
 *
 * Return: 0; -EINVAL; -ERANGE.
 */
must_check int parse_size_mib(const char *s, uint64_t *out_mib);

/** parse_duration_s() - a time in seconds: "90", "90s", "15m", "2h", "1d"; at least one. Return: 0;
 * -EINVAL; -ERANGE */
must_check int parse_duration_s(const char *s, uint64_t *out_s);

/** parse_restart() - a restart policy: "no" (0 tries), "on-failure" (RESTARTS_USUAL) or
 * "on-failure:N" (base/limits.h). Return: 0; -EINVAL; -ERANGE */
must_check int parse_restart(const char *s, uint64_t *out_tries);

/**
 * parse_keyed() - the number behind a key in text of the kernel's that has a key on each line, as
 * "oom_kill 3" in a cgroup's memory.events, or "MemTotal:  123 kB" in /proc/meminfo
 * @key: all of a line's first word.
 *
 * Return: 0; -ENOENT no line has it; -EINVAL, -ERANGE no number is behind it.
 */
must_check int parse_keyed(const char *text, const char *key, uint64_t *out);

/** parse_bool() - "true" "yes" "on" "1" or "false" "no" "off" "0". Return: 0; -EINVAL */
must_check int parse_bool(const char *s, bool *out);
