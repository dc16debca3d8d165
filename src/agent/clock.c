/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/clock.h"

#include "agent/reply.h"
#include "base/clock.h"
#include "base/parse.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/timex.h>

static const int64_t SLEW_MAX_NS = (int64_t)NS_PER_S / 2;
static const uint64_t BY_MAX_NS = INT64_MAX;

void clock_serve(struct http_exchange *x, const struct route_params *params, void *arg)
{
	char text[24];

	(void)params;
	(void)arg;
	snprintf(text, sizeof(text), "%" PRIu64, clock_realtime_ns());
	http_reply(x, 200, NULL, "text/plain", text, strlen(text));
}

static int slew(int64_t by_ns)
{
	const struct timeval by = { .tv_usec = (suseconds_t)(by_ns / 1000) };

	return adjtime(&by, NULL) < 0 ? -errno : 0;
}

static int step(int64_t by_ns)
{
	struct timex tx = { .modes = ADJ_SETOFFSET | ADJ_NANO };

	tx.time.tv_sec = (time_t)(by_ns / (int64_t)NS_PER_S);
	tx.time.tv_usec = (suseconds_t)(by_ns % (int64_t)NS_PER_S);
	if (tx.time.tv_usec < 0) { /* the kernel wants it from 0 on */
		tx.time.tv_sec--;
		tx.time.tv_usec += (suseconds_t)NS_PER_S;
	}
	return adjtimex(&tx) < 0 ? -errno : 0;
}

void clock_serve_set(struct http_exchange *x, const struct route_params *params, void *arg)
{
	const char *by = params->at[0];
	bool back = by[0] == '-';
	uint64_t ns;
	int64_t by_ns;
	int r;

	(void)arg;
	if (parse_u64(by + back, 0, BY_MAX_NS, &ns) < 0) {
		reply_error(x, 400, "'%.32s' is no number of ns", by);
		return;
	}
	by_ns = back ? -(int64_t)ns : (int64_t)ns;
	r = -SLEW_MAX_NS < by_ns && by_ns < SLEW_MAX_NS ? slew(by_ns) : step(by_ns);
	if (r < 0)
		reply_error(x, 500, "set the clock by %" PRId64 " ns: %s", by_ns, strerror(-r));
	else
		reply_empty(x, 204);
}
