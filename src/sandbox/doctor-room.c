/* SPDX-License-Identifier: Apache-2.0 */
/* How much there is of what runs out: disk, memory, files, threads. */
#include "base/file.h"
#include "base/parse.h"
#include "sandbox/doctor-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

enum {
	MIB = 1024 * 1024,
	STATE_MISSING_MIB = 512, /* a guest that writes a little */
	STATE_LOW_MIB = 4096,
	RUN_MISSING_MIB = 16, /* console logs of a few sandboxes */
	RUN_LOW_MIB = 64,
	INODES_MISSING = 1000,
	INODES_LOW = 20000,
	SANDBOXES = 500,        /* what the limits are held against */
	FILES_PER_SANDBOX = 12, /* directories, cgroup, namespace, pidfd, console, QMP, streams */
	FILES_SHARED = 256,
	THREADS_PER_SANDBOX = 8, /* of a VMM with one CPU */
	THREADS_SHARED = 1024,   /* the rest of the host */
	MEMINFO_MAX = 16384,
};

struct room {
	const char *path;
	uint64_t missing_mib; /* less than this is too little */
	uint64_t low_mib;
};

/* The file system that a directory lies on, or will lie on. */
static int find_fs(const char *path, struct statvfs *out)
{
	auto_free char *at = str_dup(path);

	while (statvfs(at, out) < 0) {
		char *slash = strrchr(at, '/');

		if (errno != ENOENT || slash == NULL || slash == at)
			return -errno;
		*slash = '\0';
	}
	return 0;
}

static enum doctor_verdict grade(uint64_t have, uint64_t missing, uint64_t low)
{
	if (have < missing)
		return DOCTOR_MISSING;
	return have < low ? DOCTOR_DEGRADED : DOCTOR_OK;
}

static void check_space(const char *name, const struct room *room, struct doctor_report *report)
{
	struct doctor_item item = { .area = "disk", .name = str_dup(name) };
	struct statvfs fs;
	int r = find_fs(room->path, &fs);
	uint64_t free_mib;
	uint64_t total_mib;

	if (r < 0) {
		item.verdict = DOCTOR_MISSING;
		item.what = str_printf("look for room in %s: %s", room->path, strerrordesc_np(-r));
		doctor_add(report, item);
		return;
	}
	free_mib = (uint64_t)fs.f_bavail * fs.f_frsize / MIB;
	total_mib = (uint64_t)fs.f_blocks * fs.f_frsize / MIB;
	item.verdict = grade(free_mib, room->missing_mib, room->low_mib);
	/* File systems that make inodes as they need them say 0. */
	if (fs.f_files > 0)
		item.verdict = MAX(item.verdict, grade(fs.f_favail, INODES_MISSING, INODES_LOW));
	item.what = str_printf("%s: %llu of %llu MiB and %llu inodes are free", room->path,
			       (unsigned long long)free_mib, (unsigned long long)total_mib,
			       (unsigned long long)fs.f_favail);
	if (item.verdict != DOCTOR_OK) {
		item.why = str_dup("a guest that finds the host's disk full is frozen until there "
				   "is room");
		item.advice = str_dup("viv df shows what takes it, viv prune removes what nothing "
				      "uses");
	}
	doctor_add(report, item);
}

/* A line "Name:   123 kB" of /proc/meminfo, in MiB. */
static uint64_t meminfo_mib(const char *text, const char *name)
{
	const char *line = strstr(text, name);
	char number[24];
	uint64_t kib = 0;

	if (line == NULL)
		return 0;
	line += strlen(name);
	line += strspn(line, " ");
	str_copy(number, MIN(sizeof(number), strspn(line, "0123456789") + 1), line);
	return parse_u64(number, 0, UINT64_MAX, &kib) < 0 ? 0 : kib / 1024;
}

static void check_memory(const struct doctor_host *host, struct doctor_report *report)
{
	struct doctor_item item = { .area = "memory", .name = str_dup("memory") };
	auto_buf text = BUF_INIT(MEMINFO_MAX);
	uint64_t one = host->config->default_memory_mib;
	uint64_t available;

	if (file_read_at(AT_FDCWD, "/proc/meminfo", &text) < 0)
		buf_clear(&text); /* then it says that there is none */
	available = meminfo_mib(buf_str(&text), "MemAvailable:");
	item.verdict = available < one ? DOCTOR_DEGRADED : DOCTOR_OK;
	item.what = str_printf("%llu of %llu MiB are available, swap is %llu MiB",
			       (unsigned long long)available,
			       (unsigned long long)meminfo_mib(buf_str(&text), "MemTotal:"),
			       (unsigned long long)meminfo_mib(buf_str(&text), "SwapTotal:"));
	item.why = str_printf("enough for %llu sandboxes that use all of their %llu MiB",
			      (unsigned long long)(one > 0 ? available / one : 0),
			      (unsigned long long)one);
	if (item.verdict != DOCTOR_OK)
		item.advice = str_dup("viv ls shows what runs; setting default_memory");
	doctor_add(report, item);
}

static void check_files(struct doctor_report *report)
{
	struct doctor_item item = { .area = "limits", .name = str_dup("files") };
	struct rlimit limit = { 0 };
	uint64_t need = FILES_SHARED + (uint64_t)SANDBOXES * FILES_PER_SANDBOX;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		limit.rlim_cur = 0;
	item.what = str_printf("vivd may have %llu files open", (unsigned long long)limit.rlim_cur);
	if (limit.rlim_cur < need) {
		item.verdict = DOCTOR_DEGRADED;
		item.why =
			str_printf("%d sandboxes take %llu", SANDBOXES, (unsigned long long)need);
		item.advice = str_printf("LimitNOFILE=%llu in the unit, or ulimit -n %llu",
					 (unsigned long long)need, (unsigned long long)need);
	}
	doctor_add(report, item);
}

static uint64_t read_number(const char *path)
{
	auto_buf text = BUF_INIT(32);
	uint64_t n = 0;

	if (file_read_at(AT_FDCWD, path, &text) < 0 || text.len == 0)
		return 0;
	buf_head(&text)[strcspn(buf_str(&text), "\n")] = '\0';
	return parse_u64(buf_head(&text), 0, UINT64_MAX, &n) < 0 ? 0 : n;
}

static void check_threads(struct doctor_report *report)
{
	struct doctor_item item = { .area = "limits", .name = str_dup("threads") };
	uint64_t most = MIN(read_number("/proc/sys/kernel/threads-max"),
			    read_number("/proc/sys/kernel/pid_max"));
	uint64_t need = THREADS_SHARED + (uint64_t)SANDBOXES * THREADS_PER_SANDBOX;

	item.what = str_printf("the host may run %llu threads", (unsigned long long)most);
	if (most < need) {
		item.verdict = DOCTOR_DEGRADED;
		item.why = str_printf("%d sandboxes and the host take %llu", SANDBOXES,
				      (unsigned long long)need);
		item.advice = str_dup("sysctl kernel.threads-max, kernel.pid_max");
	}
	doctor_add(report, item);
}

void doctor_check_room(const struct doctor_host *host, struct doctor_report *report)
{
	const struct room state = { host->config->state_dir, STATE_MISSING_MIB, STATE_LOW_MIB };
	const struct room run = { host->config->run_dir, RUN_MISSING_MIB, RUN_LOW_MIB };

	check_space("state_dir", &state, report);
	check_space("run_dir", &run, report);
	check_memory(host, report);
	check_files(report);
	check_threads(report);
}
