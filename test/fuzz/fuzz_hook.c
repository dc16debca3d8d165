/* SPDX-License-Identifier: Apache-2.0 */
/* viv-hook speaks with strangers, and may be one: of what it answers a result is whole and plain. */
#include "daemon/hook-message.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct hook_result r;

	if (hook_result_parse((const char *)data, size, &r) < 0)
		return 0;
	if (r.status > 999 || memchr(r.error, '\0', sizeof(r.error)) == NULL)
		abort();
	if ((r.status >= 200 && r.status <= 299) != (r.error[0] == '\0'))
		abort();
	for (const char *c = r.error; *c != '\0'; c++) {
		if (*c < ' ' || *c > '~')
			abort();
	}
	return 0;
}
