/* SPDX-License-Identifier: Apache-2.0 */
/* What the agent tells of its guest at GET /metrics. */
#pragma once

#include "base/err.h"

enum { GUEST_METRICS_MAX_BYTES = 4096 };

/* Bytes, as the guest sees them. The guest can tell what it likes, below 1 PiB. */
struct guest_metrics {
	uint64_t mem_total;
	uint64_t mem_used;
	uint64_t mem_cache;
	uint64_t disk_total;
	uint64_t disk_used;
};

/** guest_metrics_parse() - read the agent's answer. Return: 0; -errno with @e set (ERR_AGENT) */
must_check int guest_metrics_parse(const char *body, size_t n, struct guest_metrics *out,
				   struct err *e);
