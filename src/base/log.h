/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One line per event: a fixed event name and fields, as logfmt on stderr, with the <priority>
 * prefix when stderr is the journal. Only the edge (operation end, request end, main) logs errors.
 *
 *	log_info("sandbox.started", kv_str("id", id.s), kv_u64("boot_ms", ms));
 *
 * Levels: error = the operator must act; warning = degraded; info = a line per operation; debug.
 */
#pragma once

#include "base/macros.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVEL_N };

struct kv {
	const char *key;
	const char *str; /* NULL = the number counts */
	uint64_t num;
};

static inline struct kv kv_str(const char *key, const char *value)
{
	return (struct kv){ .key = key, .str = value != NULL ? value : "" };
}

static inline struct kv kv_u64(const char *key, uint64_t value)
{
	return (struct kv){ .key = key, .num = value };
}

/** log_setup() - set the lowest level that is written; the first call may also open the journal
 * form */
void log_setup(enum log_level level);

/** log_level_parse() - "error", "warning", "info", "debug". Return: 0; -EINVAL */
must_check int log_level_parse(const char *s, enum log_level *out);

/**
 * log_event() - write one line; use the log_*() macros
 *
 * Thread: any; a line is one write(2) and never torn. Control characters in values are escaped.
 */
void log_event(enum log_level level, const char *event, const struct kv *kvs, size_t n);

#define log_at(level, event, ...)                                                                  \
	log_event((level), (event), (const struct kv[]){ { 0 }, ##__VA_ARGS__ } + 1,               \
		  ARRAY_SIZE(((const struct kv[]){ { 0 }, ##__VA_ARGS__ })) - 1)

#define log_error(event, ...)   log_at(LOG_LEVEL_ERROR, event, ##__VA_ARGS__)
#define log_warning(event, ...) log_at(LOG_LEVEL_WARNING, event, ##__VA_ARGS__)
#define log_info(event, ...)    log_at(LOG_LEVEL_INFO, event, ##__VA_ARGS__)
#define log_debug(event, ...)   log_at(LOG_LEVEL_DEBUG, event, ##__VA_ARGS__)
