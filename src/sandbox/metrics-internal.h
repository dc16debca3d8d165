/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of sandbox/ need of metrics.c. */
#pragma once

#include "sandbox/metrics.h"

/* In a sandbox's directory of the state directory: its samples, over a restart of vivd. */
#define METRICS_FILE "metrics"

struct http_fetch_spec;
struct meter;

/** meter_new() - without samples; meter_free() frees it when it is stopped */
struct meter *meter_new(void);
void meter_free(struct meter *meter);

/** meter_start() - sample a sandbox whose VM runs from now on */
void meter_start(struct sandbox *sb);

/** meter_stop() - its VM ends, or its resources go to a worker; idempotent */
void meter_stop(struct sandbox *sb);

/** meter_worked_ns() - when its VM was seen to work last, CLOCK_MONOTONIC; 0 = never */
uint64_t meter_worked_ns(const struct sandbox *sb);

/** meter_own_bytes() - memory that its VM had to itself when it was seen last */
uint64_t meter_own_bytes(const struct sandbox *sb);

/** meter_asked() - its agent is asked, or has answered: that is no work of the guest's own */
void meter_asked(struct sandbox *sb);

/** meter_ask_agent() - ask its agent on the loop, as http_fetch_start() does
 * @wish:	borrowed for the call; address, fields and argument (the sandbox) are set here */
struct http_fetch *meter_ask_agent(struct sandbox *sb, const struct http_fetch_spec *wish);

/** meter_load() - take the samples that an earlier daemon saved, if any */
void meter_load(struct sandbox *sb);

/** meter_save() - save them for the next daemon; at a clean end */
void meter_save(const struct sandbox *sb);
