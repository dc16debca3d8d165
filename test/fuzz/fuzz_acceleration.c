/* SPDX-License-Identifier: Apache-2.0 */
/* An acceleration.json may hold anything; what is read of it ends within its fields and is text. */
#include "sandbox/accel-internal.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct accel_record r;
	char why[ACCEL_WHY_SIZE];

	if (accel_record_parse((const char *)data, size, &r) < 0)
		return 0;
	if (memchr(r.why, '\0', sizeof(r.why)) == NULL ||
	    memchr(r.key.cpu, '\0', sizeof(r.key.cpu)) == NULL)
		abort();
	memcpy(why, r.why, sizeof(why));
	accel_clean(why);
	if (strcmp(why, r.why) != 0)
		abort();
	return 0;
}
