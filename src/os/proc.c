/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation. The CPU time of a process is a clock of the kernel's: one call, exact to the
 * nanosecond, while cpu.stat of its cgroup makes the kernel sum up all CPUs. The clock is named by
 * the pid, but an open /proc/PID/statm is bound to the process itself: when that can be read after
 * the clock, the process was there all the time, and the clock was its own.
 */
#include "os/proc.h"

#include "base/clock.h"
#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { STATM_BYTES = 256, MEMINFO_MAX_BYTES = 16384 };

static bool has_ended(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	return poll(&p, 1, 0) != 0;
}

int proc_meter_open(pid_t pid, int pidfd, struct proc_meter *out)
{
	auto_free char *path = str_printf("/proc/%d/statm", pid);
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	clockid_t clock;
	int r;

	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	r = clock_getcpuclockid(pid, &clock);
	if (r != 0)
		return -r;
	if (has_ended(pidfd))
		return -ESRCH;
	proc_meter_done(out);
	*out = (struct proc_meter){ .statm_fd = take_fd(&fd), .clock = clock };
	return 0;
}

/* "size resident shared …", in pages. */
static int read_statm(int fd, uint64_t *out_resident, uint64_t *out_shared)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	char text[STATM_BYTES];
	unsigned long long resident;
	unsigned long long shared;
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	if (n < 0)
		return -errno;
	text[n] = '\0';
	if (sscanf(text, "%*u %llu %llu", &resident, &shared) != 2) /* NOLINT(cert-err34-c) */
		return -EBADMSG;
	*out_resident = resident * page;
	*out_shared = shared * page;
	return 0;
}

static uint64_t ns_of(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * NS_PER_S + (uint64_t)t->tv_nsec;
}

int proc_meter_read(const struct proc_meter *m, struct proc_usage *out)
{
	struct timespec cpu;
	uint64_t resident = 0;
	uint64_t shared = 0;
	int r;

	if (clock_gettime(m->clock, &cpu) < 0)
		return errno == EINVAL ? -ESRCH : -errno;
	r = read_statm(m->statm_fd, &resident, &shared);
	if (r < 0)
		return r;
	out->cpu_ns = ns_of(&cpu);
	out->anon_bytes = resident > shared ? resident - shared : 0;
	return 0;
}

void proc_meter_done(struct proc_meter *m)
{
	fd_close(&m->statm_fd);
}

/* A line "Name:   123 kB" of /proc/meminfo, in MiB; 0 = there is none. */
static uint64_t meminfo_mib(const char *text, const char *name)
{
	uint64_t kib = 0;

	ignore_err(parse_keyed(text, name, &kib));
	return kib / 1024;
}

int proc_memory_read(struct proc_memory *out)
{
	auto_buf text = BUF_INIT(MEMINFO_MAX_BYTES);
	int r = file_read_at(AT_FDCWD, "/proc/meminfo", &text);

	if (r < 0)
		return r;
	out->total_mib = meminfo_mib(buf_str(&text), "MemTotal:");
	out->available_mib = meminfo_mib(buf_str(&text), "MemAvailable:");
	out->swap_mib = meminfo_mib(buf_str(&text), "SwapTotal:");
	return 0;
}

static uint64_t count_fds(void)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	uint64_t n = 0;

	if (dir_open_at(AT_FDCWD, "/proc/self/fd", 0, &d) < 0)
		return 0;
	while (dir_next(d, &entry) > 0)
		n++;
	return n > 1 ? n - 1 : 0; /* the one that reads it */
}

void proc_self_read(struct proc_self *out)
{
	auto_close int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	struct timespec cpu = { 0 };
	struct rlimit limit = { 0 };
	uint64_t shared;

	*out = (struct proc_self){ 0 };
	if (fd >= 0 && read_statm(fd, &out->resident_bytes, &shared) < 0)
		out->resident_bytes = 0;
	if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu) == 0)
		out->cpu_ns = ns_of(&cpu);
	if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
		out->max_fds = limit.rlim_cur;
	fd_close(&fd);
	out->open_fds = count_fds();
}
