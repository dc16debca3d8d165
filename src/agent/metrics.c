/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/metrics.h"

#include "agent/reply.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum {
	PROC_MAX = 256 << 10, /* /proc/stat has a line for each interrupt, too */
	CPU_FIELDS = 8,       /* up to "steal": what follows is counted in the first two */
	CPU_IDLE = 3,
	CPU_IOWAIT = 4,
	KIB = 1024,
	MIB = 1024 * 1024,
};

struct cpu_time {
	uint64_t busy;
	uint64_t all;
};

struct memory {
	uint64_t total;
	uint64_t available;
	uint64_t cached;
};

static struct cpu_time last; /* of the last request */

/* The first line: "cpu  user nice system idle iowait irq softirq steal …". */
static int read_cpu(struct cpu_time *out)
{
	auto_buf text = BUF_INIT(PROC_MAX);
	int r = file_read_at(AT_FDCWD, "/proc/stat", &text);
	struct cpu_time t = { 0 };
	char *rest;

	if (r < 0)
		return r;
	buf_str(&text); /* with a NUL behind it */
	rest = buf_head(&text);
	if (rest == NULL || !str_starts(rest, "cpu "))
		return -EBADMSG;
	rest[strcspn(rest, "\n")] = '\0';
	rest += strcspn(rest, "0123456789");
	for (int i = 0; i < CPU_FIELDS && rest != NULL; i++) {
		const char *word = strsep(&rest, " ");
		uint64_t ticks;

		if (parse_u64(word, 0, UINT64_MAX, &ticks) < 0)
			return -EBADMSG;
		t.all += ticks;
		if (i != CPU_IDLE && i != CPU_IOWAIT)
			t.busy += ticks;
	}
	*out = t;
	return 0;
}

/* The value of "Name:   123 kB" in bytes; 0 if there is none. */
static uint64_t memory_field(const char *text, const char *name)
{
	const char *at = strstr(text, name);
	char digits[24] = "";
	uint64_t kib;
	size_t n;

	if (at == NULL)
		return 0;
	at += strlen(name);
	at += strspn(at, " ");
	n = strspn(at, "0123456789");
	if (n >= sizeof(digits))
		return 0;
	memcpy(digits, at, n);
	return parse_u64(digits, 0, UINT64_MAX / KIB, &kib) == 0 ? kib * KIB : 0;
}

static int read_memory(struct memory *out)
{
	auto_buf text = BUF_INIT(PROC_MAX);
	int r = file_read_at(AT_FDCWD, "/proc/meminfo", &text);

	if (r < 0)
		return r;
	*out = (struct memory){
		.total = memory_field(buf_str(&text), "MemTotal:"),
		.available = memory_field(buf_str(&text), "MemAvailable:"),
		.cached = memory_field(buf_str(&text), "\nCached:"),
	};
	return out->total >= out->available ? 0 : -EBADMSG;
}

/* In percent of all processors, with two decimals. */
static double cpu_percent(const struct cpu_time *now)
{
	uint64_t all = now->all - last.all;
	double share = all > 0 ? (double)(now->busy - last.busy) / (double)all : 0;

	return (double)(uint64_t)(share * 10000 + 0.5) / 100;
}

void metrics_serve(struct http_exchange *x, const struct route_params *params, void *arg)
{
	struct statvfs disk;
	struct memory memory;
	struct cpu_time cpu;
	uint64_t used, disk_used, disk_total;
	int r = read_cpu(&cpu);

	(void)params;
	(void)arg;
	if (r == 0)
		r = read_memory(&memory);
	if (r == 0 && statvfs("/", &disk) < 0)
		r = -errno;
	if (r != 0) {
		reply_error(x, 500, "read the metrics: %s", strerror(-r));
		return;
	}
	used = memory.total - memory.available;
	disk_total = (uint64_t)disk.f_blocks * disk.f_frsize;
	disk_used = disk_total - (uint64_t)disk.f_bfree * disk.f_frsize;
	reply_json(x, 200,
		   json_pack("{s:I, s:i, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "ts",
			     (json_int_t)(clock_realtime_ms() / MS_PER_S), "cpu_count",
			     (int)sysconf(_SC_NPROCESSORS_ONLN), "cpu_used_pct", cpu_percent(&cpu),
			     "mem_total", (json_int_t)memory.total, "mem_used", (json_int_t)used,
			     "mem_cache", (json_int_t)memory.cached, "mem_total_mib",
			     (json_int_t)(memory.total / MIB), "mem_used_mib",
			     (json_int_t)(used / MIB), "disk_used", (json_int_t)disk_used,
			     "disk_total", (json_int_t)disk_total));
	last = cpu;
}
