/* SPDX-License-Identifier: Apache-2.0 */
#include "sandbox/room-internal.h"

#include "base/file.h"
#include "base/log.h"
#include "base/parse.h"
#include "base/str.h"
#include "os/proc.h"
#include "sandbox/metrics-internal.h"
#include "sandbox/ready-internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/resource.h>
#include <sys/statvfs.h>

enum {
	MIB = 1024 * 1024,
	VMM_MIB = 32, /* of a VMM for itself; 33 were measured of QEMU */
	RESERVE_SHARE = 20,
	MEMORY_RESERVE_MOST_MIB = 512,
	DISK_RESERVE_MOST_MIB = 1024,
	ENOUGH_SHARE = 8, /* so much of the reserve over it is room again: no flapping */
	FILES_EACH = 12,  /* directories, cgroup, namespace, pidfd, console, QMP, streams */
	FILES_SHARED = 192,
	THREADS_EACH = 8,      /* of a VMM with one CPU */
	THREADS_SHARED = 1024, /* the rest of the host */
};

uint64_t room_counted(uint64_t size, uint64_t own, unsigned overcommit)
{
	return MAX(own, (size + overcommit - 1) / overcommit + VMM_MIB);
}

uint64_t room_most(const struct room_memory *memory)
{
	uint64_t all;

	if (__builtin_add_overflow(memory->own, memory->available, &all))
		return UINT64_MAX;
	return all > memory->reserve ? all - memory->reserve : 0;
}

uint64_t room_reserve(uint64_t wish, uint64_t total, uint64_t most)
{
	return wish != 0 ? wish : MIN(total / RESERVE_SHARE, most);
}

uint64_t room_memory_reserve(const struct manager_config *config, uint64_t total)
{
	return room_reserve(config->memory_reserve_mib, total, MEMORY_RESERVE_MOST_MIB);
}

/* What a sandbox's VM has to itself. Return: whether it is counted. */
static bool own_of(const struct sandbox *sb, uint64_t *out)
{
	struct proc_usage usage = { .anon_bytes = 0 };

	*out = 0;
	switch (sb->row.state) {
	case DB_RUNNING:
	case DB_PAUSING:
		*out = meter_own_bytes(sb) / MIB;
		return true;
	case DB_CREATING:
	case DB_STARTING:
	case DB_RESUMING:
		return true;
	case DB_READY:
		if (sb->member != NULL && proc_meter_read(&sb->member->meter, &usage) == 0)
			*out = usage.anon_bytes / MIB;
		return sb->member != NULL; /* one that is being made gives way, too */
	case DB_PAUSED:
	case DB_STOPPED:
	case DB_DELETING: /* it is about to give back what it has */
	case DB_STATE_N:
		break;
	}
	return false;
}

static uint64_t count(const struct sandbox *sb, uint64_t own)
{
	return room_counted(sb->row.memory_mib, own, sb->m->config.memory_overcommit);
}

void room_memory(const struct manager *m, struct room_memory *out)
{
	struct proc_memory host = { .total_mib = m->host_memory_mib, .available_mib = UINT64_MAX };
	uint64_t own;

	ignore_err(proc_memory_read(&host)); /* then all is available, and each starts as it can */
	*out = (struct room_memory){ .total = host.total_mib, .available = host.available_mib };
	out->reserve = room_memory_reserve(&m->config, host.total_mib);
	vec_foreach (at, &m->all) {
		if (!own_of(*at, &own))
			continue;
		out->own += own;
		out->committed += count(*at, own);
		out->waiting += (*at)->row.state == DB_READY ? count(*at, own) : 0;
	}
}

/* Ends as many that wait in pools, the oldest first, as are counted for @mib. */
static void end_waiting(struct manager *m, uint64_t mib)
{
	uint64_t given = 0;
	uint64_t own;
	size_t i = 0;

	while (i < m->all.n && given < mib) {
		struct sandbox *sb = m->all.at[i++];

		if (sb->member == NULL || !own_of(sb, &own))
			continue;
		given += count(sb, own);
		log_info("ready.gives_way", kv_str("id", sb->row.id.s));
		sandbox_start_destroy(sb); /* a worker's: it stays in the table meanwhile */
	}
}

static int check_memory(struct manager *m, const struct room_wish *wish, struct err *e)
{
	uint64_t one = room_counted(wish->memory_mib, 0, m->config.memory_overcommit);
	uint64_t wanted = one * wish->vms;
	struct room_memory memory;
	uint64_t most;
	uint64_t held;

	room_memory(m, &memory);
	most = room_most(&memory);
	held = memory.committed - (wish->asked ? memory.waiting : 0);
	if (held > most || wanted > most - held)
		return err_set(e, ERR_EXHAUSTED,
			       "no memory for %s of %" PRIu64 " MiB, counted as %" PRIu64
			       ": those that run are counted as %" PRIu64 " of at most %" PRIu64
			       " MiB; pause or remove some, or see memory_overcommit and "
			       "memory_reserve in vivd.conf",
			       wish->vms > 1 ? "sandboxes" : "a sandbox", wish->memory_mib, wanted,
			       held, most);
	if (memory.committed > most || wanted > most - memory.committed)
		end_waiting(m, memory.committed + wanted - most);
	return 0;
}

int room_disk(const struct manager_config *config, struct room_disk *out)
{
	auto_free char *at = str_printf("%s/sandboxes", config->state_dir);
	struct statvfs fs;

	while (statvfs(at, &fs) < 0) {
		char *slash = strrchr(at, '/');

		if (errno != ENOENT || slash == NULL || slash == at)
			return -errno;
		*slash = '\0'; /* what is missing will be made */
	}
	out->total = (uint64_t)fs.f_blocks * fs.f_frsize / MIB;
	out->free = (uint64_t)fs.f_bavail * fs.f_frsize / MIB;
	out->reserve = room_reserve(config->disk_reserve_mib, out->total, DISK_RESERVE_MOST_MIB);
	return 0;
}

void room_look(struct manager *m, struct room_disk *out)
{
	struct room_disk disk = { 0 };
	bool low;

	if (room_disk(&m->config, &disk) < 0) /* what needs it fails, and says why */
		disk = (struct room_disk){ .free = UINT64_MAX };
	low = disk.free < disk.reserve + (m->disk_low ? disk.reserve / ENOUGH_SHARE : 0);
	if (low && !m->disk_low)
		log_warning("disk.low", kv_str("directory", m->config.state_dir),
			    kv_u64("free_mib", disk.free), kv_u64("reserve_mib", disk.reserve));
	else if (!low && m->disk_low)
		log_info("disk.enough", kv_str("directory", m->config.state_dir),
			 kv_u64("free_mib", disk.free), kv_u64("reserve_mib", disk.reserve));
	m->disk_low = low;
	*out = disk;
}

int room_check_disk(struct manager *m, struct err *e)
{
	struct room_disk disk;

	room_look(m, &disk);
	if (disk.free >= disk.reserve)
		return 0;
	return err_set(e, ERR_EXHAUSTED,
		       "no space on the host's disk: %" PRIu64
		       " MiB are free in %.80s, and %" PRIu64
		       " are kept so (setting disk_reserve); viv df shows what takes it, viv prune "
		       "removes what nothing uses",
		       disk.free, m->config.state_dir, disk.reserve);
}

static uint64_t count_vms(const struct manager *m)
{
	uint64_t n = 0;
	uint64_t own;

	vec_foreach (at, &m->all)
		n += own_of(*at, &own);
	return n;
}

static int check_files(const struct manager *m, const struct room_wish *wish, struct err *e)
{
	struct room_limit files = room_files();
	uint64_t most = room_limit_sandboxes(&files);

	if (count_vms(m) + wish->vms <= most)
		return 0;
	return err_set(e, ERR_EXHAUSTED,
		       "vivd may have %" PRIu64 " files open, enough for %" PRIu64
		       " sandboxes that run; raise the hard limit, by LimitNOFILE= in its unit or "
		       "\"ulimit -Hn\" of who starts it",
		       files.have, most);
}

int room_check(struct manager *m, const struct room_wish *wish, struct err *e)
{
	int r = wish->disk ? room_check_disk(m, e) : 0;

	if (r == 0 && wish->vms > 0)
		r = check_files(m, wish, e);
	if (r == 0 && wish->vms > 0)
		r = check_memory(m, wish, e);
	return r;
}

uint64_t room_limit_sandboxes(const struct room_limit *limit)
{
	return limit->have > limit->shared ? (limit->have - limit->shared) / limit->each : 0;
}

uint64_t room_limit_need(const struct room_limit *limit, uint64_t n)
{
	return limit->shared + n * limit->each;
}

struct room_limit room_files(void)
{
	struct rlimit limit = { 0 };

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		limit.rlim_cur = 0;
	return (struct room_limit){ limit.rlim_cur, FILES_SHARED, FILES_EACH };
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

struct room_limit room_threads(void)
{
	uint64_t most = MIN(read_number("/proc/sys/kernel/threads-max"),
			    read_number("/proc/sys/kernel/pid_max"));

	return (struct room_limit){ most, THREADS_SHARED, THREADS_EACH };
}

static void tell_limit(const char *what, const struct room_limit *limit, const char *advice)
{
	if (room_limit_sandboxes(limit) >= ROOM_SANDBOXES_MAX)
		return;
	log_warning("limits.low", kv_str("of", what), kv_u64("have", limit->have),
		    kv_u64("enough_for_sandboxes", room_limit_sandboxes(limit)),
		    kv_u64("need", room_limit_need(limit, ROOM_SANDBOXES_MAX)),
		    kv_str("advice", advice));
}

void room_tell_limits(void)
{
	struct room_limit files = room_files();
	struct room_limit threads = room_threads();

	tell_limit("files", &files, "LimitNOFILE= in the unit, or ulimit -Hn of who starts vivd");
	tell_limit("threads", &threads, "sysctl kernel.threads-max, kernel.pid_max");
}
