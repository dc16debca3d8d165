/* SPDX-License-Identifier: Apache-2.0 */
/* A guest may say anything of itself; what is taken of it adds up and is below 1 PiB. */
#include "guest/metrics.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint64_t most = UINT64_C(1) << 50;
	struct guest_metrics m = { 0 };
	struct err e = { 0 };

	if (guest_metrics_parse((const char *)data, size, &m, &e) < 0) {
		if (!err_is_set(&e) || m.mem_total != 0)
			abort();
		return 0;
	}
	if (err_is_set(&e) || m.mem_used > m.mem_total || m.disk_used > m.disk_total ||
	    m.mem_total > most || m.disk_total > most || m.mem_cache > most)
		abort();
	return 0;
}
