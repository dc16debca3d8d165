/* SPDX-License-Identifier: Apache-2.0 */
/* How much there is of what runs out: disk, memory, files, threads. */
#include "os/proc.h"
#include "sandbox/doctor-internal.h"
#include "sandbox/room.h"

#include <errno.h>
#include <sys/statvfs.h>

enum {
	MIB = 1024 * 1024,
	STATE_LOW_MIB = 4096,
	RUN_MISSING_MIB = 16, /* console logs of a few sandboxes */
	RUN_LOW_MIB = 64,
	INODES_MISSING = 1000,
	INODES_LOW = 20000,
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
		item.why = str_printf("with less than %llu MiB nothing new is made; a guest that "
				      "finds the disk full stands still until there is room",
				      (unsigned long long)room->missing_mib);
		item.advice = str_dup("viv df shows what takes it, viv prune removes what nothing "
				      "uses");
	}
	doctor_add(report, item);
}

static void check_memory(const struct doctor_host *host, struct doctor_report *report)
{
	struct doctor_item item = { .area = "memory", .name = str_dup("memory") };
	const struct room_memory *m = host->memory;
	const struct manager_config *c = host->config;
	struct proc_memory memory = { 0 };
	struct room_memory alone = { 0 };
	uint64_t one = room_counted(c->default_memory_mib, 0, c->memory_overcommit);
	uint64_t left;

	ignore_err(proc_memory_read(&memory)); /* then it says that there is none */
	alone.available = memory.available_mib;
	alone.reserve = room_memory_reserve(c, memory.total_mib);
	m = m != NULL ? m : &alone;
	left = room_most(m) - MIN(room_most(m), m->committed);
	item.verdict = left < one ? DOCTOR_DEGRADED : DOCTOR_OK;
	item.what = str_printf("%llu of %llu MiB are available, swap is %llu MiB",
			       (unsigned long long)memory.available_mib,
			       (unsigned long long)memory.total_mib,
			       (unsigned long long)memory.swap_mib);
	item.why = str_printf("sandboxes have %llu MiB to themselves and are counted as %llu of at "
			      "most %llu; there is room for %llu more of %llu MiB",
			      (unsigned long long)m->own, (unsigned long long)m->committed,
			      (unsigned long long)room_most(m), (unsigned long long)(left / one),
			      (unsigned long long)c->default_memory_mib);
	if (item.verdict != DOCTOR_OK)
		item.advice = str_dup("viv ls shows what runs; settings memory_overcommit, "
				      "memory_reserve, default_memory");
	doctor_add(report, item);
}

static void check_files(struct doctor_report *report)
{
	struct doctor_item item = { .area = "limits", .name = str_dup("files") };
	struct room_limit limit = room_files();
	uint64_t need = room_limit_need(&limit, ROOM_SANDBOXES_MAX);

	item.what = str_printf("vivd may have %llu files open", (unsigned long long)limit.have);
	if (limit.have < need) {
		item.verdict = DOCTOR_DEGRADED;
		item.why = str_printf("enough for %llu sandboxes; %d take %llu",
				      (unsigned long long)room_limit_sandboxes(&limit),
				      ROOM_SANDBOXES_MAX, (unsigned long long)need);
		item.advice = str_printf("LimitNOFILE=%llu in the unit, or ulimit -n %llu",
					 (unsigned long long)need, (unsigned long long)need);
	}
	doctor_add(report, item);
}

static void check_threads(struct doctor_report *report)
{
	struct doctor_item item = { .area = "limits", .name = str_dup("threads") };
	struct room_limit limit = room_threads();
	uint64_t need = room_limit_need(&limit, ROOM_SANDBOXES_MAX);

	item.what = str_printf("the host may run %llu threads", (unsigned long long)limit.have);
	if (limit.have < need) {
		item.verdict = DOCTOR_DEGRADED;
		item.why = str_printf("%d sandboxes and the host take %llu", ROOM_SANDBOXES_MAX,
				      (unsigned long long)need);
		item.advice = str_dup("sysctl kernel.threads-max, kernel.pid_max");
	}
	doctor_add(report, item);
}

void doctor_check_room(const struct doctor_host *host, struct doctor_report *report)
{
	const struct room run = { host->config->run_dir, RUN_MISSING_MIB, RUN_LOW_MIB };
	auto_free char *sandboxes = str_printf("%s/sandboxes", host->config->state_dir);
	struct room_disk disk = { 0 };
	struct room state = { sandboxes };

	ignore_err(room_disk(host->config, &disk)); /* the check itself says why */
	state.missing_mib = disk.reserve;
	state.low_mib = MAX((uint64_t)STATE_LOW_MIB, disk.reserve);
	check_space("state_dir", &state, report);
	check_space("run_dir", &run, report);
	check_memory(host, report);
	check_files(report);
	check_threads(report);
}
