/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The kernel knows the rate and gives it away in the page that perf events are mapped with:
 * nanoseconds = cycles * time_mult >> time_shift. That is exact, but absent where perf is forbidden
 * or where the host is itself a guest with a paravirtual clock. Then the counter is read twice, 50
 * ms apart at least, each time between two readings of CLOCK_MONOTONIC_RAW, of several such the one
 * with the narrowest bracket: a bracket of 200 ns makes an error of 4 ppm at most. What the process
 * does between tsc_begin() and tsc_khz() counts as part of these 50 ms.
 */
#include "vmm/tsc.h"

#include "base/clock.h"
#include "base/fd.h"
#include "base/op.h"

#include <linux/perf_event.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

enum { TSC_SPAN_MS = 50, TSC_TRIES = 32 };

struct reading {
	uint64_t ns;
	uint64_t cycles;
};

static uint64_t found_khz;
static struct reading first; /* while the kernel does not tell */

static uint64_t rate_of_page(const struct perf_event_mmap_page *page)
{
	if (!page->cap_user_time || page->time_mult == 0)
		return 0;
	return (uint64_t)((((__uint128_t)NS_PER_MS) << page->time_shift) / page->time_mult);
}

static uint64_t rate_of_perf(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_SOFTWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_SW_DUMMY,
		.exclude_kernel = 1,
	};
	size_t size = (size_t)sysconf(_SC_PAGESIZE);
	auto_close int fd =
		(int)syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
	uint64_t khz;
	void *page;

	if (fd < 0)
		return 0;
	page = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
	if (page == MAP_FAILED)
		return 0;
	khz = rate_of_page(page);
	munmap(page, size);
	return khz;
}

static uint64_t raw_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC_RAW, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

static struct reading read_both(void)
{
	struct reading best = { 0 };
	uint64_t narrowest = UINT64_MAX;

	for (int i = 0; i < TSC_TRIES; i++) {
		uint64_t before = raw_ns();
		uint64_t cycles = __rdtsc();
		uint64_t after = raw_ns();

		if (after - before < narrowest) {
			narrowest = after - before;
			best.ns = before + narrowest / 2;
			best.cycles = cycles;
		}
	}
	return best;
}

static uint64_t rate_by_clock(void)
{
	uint64_t passed_ms = (raw_ns() - first.ns) / NS_PER_MS;
	struct reading last;
	struct op span;
	uint64_t ns;

	if (passed_ms < TSC_SPAN_MS) {
		op_init(&span, TSC_SPAN_MS - passed_ms, -1);
		ignore_err(op_wait_fd(&span, -1, 0, -1)); /* time has to pass: it is measured */
	}
	last = read_both();
	if (last.ns <= first.ns || last.cycles <= first.cycles)
		return 0;
	ns = last.ns - first.ns;
	return (uint64_t)(((__uint128_t)(last.cycles - first.cycles) * NS_PER_MS + ns / 2) / ns);
}

static void begin(void)
{
	found_khz = rate_of_perf();
	if (found_khz == 0)
		first = read_both();
}

void tsc_begin(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, begin);
}

static void find_rate(void)
{
	tsc_begin();
	if (found_khz == 0)
		found_khz = rate_by_clock();
}

uint64_t tsc_khz(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, find_rate);
	return found_khz;
}
