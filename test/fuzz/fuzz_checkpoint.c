/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest.json may hold anything; what is read of it ends within its fields. */
#include "sandbox/checkpoint.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool fact)
{
	if (!fact)
		abort();
}

#define ENDS_WITHIN(text) (memchr(text, '\0', sizeof(text)) != NULL)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct checkpoint c;

	memset(&c, 0xff, sizeof(c));
	if (checkpoint_parse((const char *)data, size, &c) < 0) {
		for (size_t i = 0; i < sizeof(c); i++) /* nothing was written */
			require(((const unsigned char *)&c)[i] == 0xff);
		return 0;
	}
	require(c.generation >= 1 && c.parent < c.generation && c.cpus >= 1);
	require(c.memory_mib >= 1 && c.disk_mib >= 1);
	require(ENDS_WITHIN(c.vmm) && ENDS_WITHIN(c.cpu) && ENDS_WITHIN(c.acceleration));
	require(ENDS_WITHIN(c.disk_driver) && ENDS_WITHIN(c.kernel_version));
	require(ENDS_WITHIN(c.agent_version));
	return 0;
}
