/* SPDX-License-Identifier: Apache-2.0 */
/* A handles.json may hold anything; what is read of it ends within its fields. */
#include "sandbox/handles.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct handles h = HANDLES_INIT;

	if (handles_parse((const char *)data, size, &h) < 0)
		return 0;
	if (h.pid < 0 || memchr(h.netns, '\0', sizeof(h.netns)) == NULL ||
	    memchr(h.dm_name, '\0', sizeof(h.dm_name)) == NULL)
		abort();
	return 0;
}
