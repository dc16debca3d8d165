/* SPDX-License-Identifier: Apache-2.0 */
/* The QMP client reads what a VMM writes, and a VMM may have been taken over by its guest. */
#include "vmm/qmp.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qmp *q;
	json_t *event;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	if (qmp_new(pair[0], &q) < 0)
		abort();
	/* In two pieces, so that lines are cut anywhere. */
	ignore_err(qmp_feed(q, (const char *)data, size / 2)); /* what it says of garbage is moot */
	ignore_err(qmp_feed(q, (const char *)data + size / 2, size - size / 2));
	while (qmp_next_event(q, &event) == 1)
		json_decref(event);
	qmp_free(q);
	close(pair[1]);
	return 0;
}
