/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Which pages a guest owns is asked of the kernel by PAGEMAP_SCAN (Linux 6.7), which gives ranges,
 * or else read from /proc/PID/pagemap, page by page.
 *
 * Tracking: a userfaultfd of the VMM's process, of which we take a duplicate, has its memory be
 * watched; PAGEMAP_SCAN then write-protects the owned pages and tells which they are, in one step.
 * A write to such a page faults once, the kernel takes the protection off and the guest never
 * notices (UFFD_FEATURE_WP_ASYNC): nobody has to answer, and a daemon that is killed leaves nothing
 * but that. A page without protection counts as written: one that came to be owned later, too.
 *
 * That misses writes of devices into pages that they had pinned before: QEMU's block driver copies
 * through the host's page cache, by the same page tables, and so does everything else here.
 */
#include "vmm/ram.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/pidfd.h>
#include <sys/uio.h>
#include <unistd.h>

/* <linux/fs.h> of Linux 6.7; not in Debian 12's headers. */
struct scan_region {
	uint64_t start;
	uint64_t end;
	uint64_t categories;
};

struct scan_arg {
	uint64_t size;
	uint64_t flags;
	uint64_t start;
	uint64_t end;
	uint64_t walk_end;
	uint64_t vec;
	uint64_t vec_len;
	uint64_t max_pages;
	uint64_t category_inverted;
	uint64_t category_mask;
	uint64_t category_anyof_mask;
	uint64_t return_mask;
};

#define PAGEMAP_SCAN _IOWR('f', 16, struct scan_arg)

enum { SCAN_WRITTEN = 1 << 1, SCAN_FILE = 1 << 2, SCAN_PRESENT = 1 << 3, SCAN_SWAPPED = 1 << 4 };
enum { SCAN_PROTECT = 1 << 0, SCAN_CHECK_ASYNC = 1 << 1 }; /* flags */

#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_SWAPPED (1ULL << 62)
#define PAGEMAP_FILE    (1ULL << 61)

enum {
	SCAN_PAGES = 1024, /* entries that are read at once: 8 KiB */
	SCAN_REGIONS = 256,
	RUNS_PER_CALL = 512,
};
static_assert(RUNS_PER_CALL <= 1024, "IOV_MAX");

/*
 * A pid is another process's as soon as the one that had it was reaped. It was still ours for as
 * long as the pidfd says that the process had not ended.
 */
static int check_alive(const struct ram *ram, struct err *e)
{
	struct pollfd p = { .fd = ram->pidfd, .events = POLLIN };

	if (poll(&p, 1, 0) == 0)
		return 0;
	return err_set(e, ERR_VMM, "the VMM (process %d) ended", ram->pid);
}

void ram_runs_add(struct ram_runs *runs, uint64_t page, uint64_t n, bool written)
{
	struct ram_run *last = runs->n > 0 ? &runs->at[runs->n - 1] : NULL;

	if (last != NULL && last->first + last->n == page && last->written == written) {
		uint64_t more = MIN(n, (uint64_t)RAM_RUN_PAGES_MAX - last->n);

		last->n = (uint16_t)(last->n + more);
		page += more;
		n -= more;
	}
	for (uint64_t part; n > 0; page += part, n -= part) {
		part = MIN(n, (uint64_t)RAM_RUN_PAGES_MAX);
		ram_runs_push(runs, (struct ram_run){ .first = (uint32_t)page,
						      .n = (uint16_t)part,
						      .written = written });
	}
}

static bool is_owned(uint64_t entry)
{
	return (entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) != 0 && (entry & PAGEMAP_FILE) == 0;
}

static int read_part(int pagemap, const struct ram *ram, uint64_t page, size_t n,
		     struct ram_runs *out)
{
	uint64_t entries[SCAN_PAGES];
	uint64_t off_bytes = (ram->address / RAM_PAGE_BYTES + page) * sizeof(entries[0]);
	ssize_t got = pread(pagemap, entries, n * sizeof(entries[0]), (off_t)off_bytes);

	if (got < 0)
		return -errno;
	if ((size_t)got != n * sizeof(entries[0]))
		return -EIO;
	for (size_t i = 0; i < n; i++) {
		if (is_owned(entries[i]))
			ram_runs_add(out, page + i, 1, true);
	}
	return 0;
}

static int read_pagemap(int pagemap, const struct ram *ram, struct ram_runs *out)
{
	uint64_t n_pages = ram->bytes / RAM_PAGE_BYTES;
	int r = 0;

	for (uint64_t page = 0; page < n_pages && r == 0; page += SCAN_PAGES)
		r = read_part(pagemap, ram, page, MIN(n_pages - page, (uint64_t)SCAN_PAGES), out);
	return r;
}

/* What was discarded while it was protected looks as if it were swapped out; so neither of the two
 * is believed to be as it was. */
static bool was_written(uint64_t categories)
{
	return (categories & SCAN_WRITTEN) != 0 || (categories & SCAN_PRESENT) == 0;
}

/* What a scan is for. */
struct scan {
	uint64_t flags;
	uint64_t only; /* pages of these categories, beside being owned */
};

/* One call. Where it ended is what the last region says: walk_end may be from before that. Return:
 * 1 there may be more; 0; -errno. */
static int scan_part(int pagemap, const struct ram *ram, const struct scan *scan, uint64_t *start,
		     struct ram_runs *out)
{
	struct scan_region regions[SCAN_REGIONS];
	struct scan_arg arg = {
		.size = sizeof(arg),
		.flags = scan->flags,
		.start = *start,
		.end = ram->address + ram->bytes,
		.vec = (uintptr_t)regions,
		.vec_len = SCAN_REGIONS,
		.category_inverted = SCAN_FILE,
		.category_mask = SCAN_FILE | scan->only,
		.category_anyof_mask = SCAN_PRESENT | SCAN_SWAPPED,
		.return_mask = SCAN_WRITTEN | SCAN_PRESENT,
	};
	int n = ioctl(pagemap, PAGEMAP_SCAN, &arg);

	if (n < 0)
		return -errno;
	for (int i = 0; i < n; i++) {
		const struct scan_region *region = &regions[i];

		ram_runs_add(out, (region->start - ram->address) / RAM_PAGE_BYTES,
			     (region->end - region->start) / RAM_PAGE_BYTES,
			     was_written(region->categories));
		*start = region->end;
	}
	return n == SCAN_REGIONS;
}

static int scan_pagemap(int pagemap, const struct ram *ram, const struct scan *scan,
			struct ram_runs *out)
{
	uint64_t start = ram->address;
	int r = 1;

	while (r == 1 && start < ram->address + ram->bytes)
		r = scan_part(pagemap, ram, scan, &start, out);
	return MIN(r, 0);
}

static int open_pagemap(const struct ram *ram, struct err *e)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", ram->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? err_errno(e, errno, "open %s", path) : fd;
}

/* The end of a scan: what it read was the VMM's, and is the caller's now. */
static int scanned(int result, const struct ram *ram, struct ram_runs *runs, struct ram_runs *out,
		   struct err *e)
{
	int r = result;

	if (r < 0)
		return err_errno(e, -r, "read the page map of process %d", ram->pid);
	r = check_alive(ram, e);
	if (r < 0)
		return r;
	*out = *runs;
	*runs = (struct ram_runs){ 0 };
	return 0;
}

int ram_scan(const struct ram *ram, struct ram_runs *out, struct err *e)
{
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	auto_close int fd = open_pagemap(ram, e);
	int r;

	if (fd < 0)
		return fd;
	r = scan_pagemap(fd, ram, &(struct scan){ 0 }, &runs);
	if (r == -ENOTTY) /* an older kernel */
		r = read_pagemap(fd, ram, &runs);
	return scanned(r, ram, &runs, out, e);
}

/* Ours of what the VMM has under that number. Return: descriptor; -errno: there is none, or it is
 * something else. */
static int get_uffd(const struct ram *ram)
{
	auto_close int fd = pidfd_getfd(ram->pidfd, RAM_UFFD, 0);
	char path[64];
	char is[64];
	ssize_t n;

	if (fd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	n = readlink(path, is, sizeof(is) - 1);
	if (n < 0)
		return -errno;
	is[n] = '\0';
	return streq(is, "anon_inode:[userfaultfd]") ? take_fd(&fd) : -EBADF;
}

static int watch_memory(int uffd, const struct ram *ram)
{
	struct uffdio_register all = {
		.range = { .start = ram->address, .len = ram->bytes },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &all) < 0 ? -errno : 0;
}

static const struct scan protect_all = { .flags = SCAN_PROTECT | SCAN_CHECK_ASYNC };
static const struct scan protect_written = { .flags = SCAN_PROTECT | SCAN_CHECK_ASYNC,
					     .only = SCAN_WRITTEN };

int ram_track(const struct ram *ram, struct ram_runs *out_owned, int *out_fd, struct err *e)
{
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	auto_close int pagemap = open_pagemap(ram, e);
	auto_close int uffd = pagemap < 0 ? -1 : get_uffd(ram);
	int r;

	if (pagemap < 0)
		return pagemap;
	r = uffd < 0 ? uffd : watch_memory(uffd, ram);
	if (r == 0) {
		r = scan_pagemap(pagemap, ram, &protect_all, &runs);
		if (r < 0)
			ram_untrack(ram, take_fd(&uffd));
	}
	if (r < 0)
		return MIN(check_alive(ram, e), 0);
	*out_owned = runs;
	runs = (struct ram_runs){ 0 };
	*out_fd = take_fd(&uffd);
	return 1;
}

int ram_track_again(const struct ram *ram, struct ram_runs *out, struct err *e)
{
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	auto_close int pagemap = open_pagemap(ram, e);
	int r;

	if (pagemap < 0)
		return pagemap;
	r = scan_pagemap(pagemap, ram, &protect_written, &runs);
	return scanned(r, ram, &runs, out, e);
}

void ram_untrack(const struct ram *ram, int fd)
{
	struct uffdio_range all = { .start = ram->address, .len = ram->bytes };

	ignore_err(ioctl(fd, UFFDIO_UNREGISTER, &all)); /* fails when the process has ended */
	fd_close(&fd);
}

uint64_t ram_runs_pages(const struct ram_runs *runs)
{
	uint64_t n = 0;

	vec_foreach (run, runs)
		n += run->n;
	return n;
}

static struct iovec remote_part(const struct ram *ram, struct ram_run run)
{
	uint64_t address = ram->address + (uint64_t)run.first * RAM_PAGE_BYTES;

	assert((uint64_t)run.first * RAM_PAGE_BYTES + (uint64_t)run.n * RAM_PAGE_BYTES <=
	       ram->bytes);
	return (struct iovec){ .iov_base = (void *)(uintptr_t)address,
			       .iov_len = (size_t)run.n * RAM_PAGE_BYTES };
}

/* Copies up to RUNS_PER_CALL runs between the guest and one place of ours, in one call. */
static int copy_some(const struct ram *ram, const struct ram_run *runs, size_t n, bool write,
		     struct iovec *local, struct err *e)
{
	const char *verb = write ? "write" : "read";
	struct iovec remote[RUNS_PER_CALL];
	ssize_t done;

	local->iov_len = 0;
	for (size_t i = 0; i < n; i++) {
		remote[i] = remote_part(ram, runs[i]);
		local->iov_len += remote[i].iov_len;
	}
	if (write)
		done = process_vm_writev(ram->pid, local, 1, remote, n, 0);
	else
		done = process_vm_readv(ram->pid, local, 1, remote, n, 0);
	if (done < 0)
		return err_errno(e, errno, "%s the guest's memory", verb);
	if ((size_t)done != local->iov_len)
		return err_set(e, ERR_VMM, "%s the guest's memory: only a part was possible", verb);
	return 0;
}

static int copy_all(const struct ram *ram, const struct ram_run *runs, size_t n, bool write,
		    void *place, struct err *e)
{
	struct iovec local = { .iov_base = place };

	for (size_t i = 0; i < n; i += RUNS_PER_CALL) {
		int r = copy_some(ram, &runs[i], MIN(n - i, (size_t)RUNS_PER_CALL), write, &local,
				  e);

		if (r < 0)
			return r;
		local.iov_base = (char *)local.iov_base + local.iov_len;
	}
	return check_alive(ram, e);
}

int ram_read(const struct ram *ram, const struct ram_run *runs, size_t n, void *out, struct err *e)
{
	return copy_all(ram, runs, n, false, out, e);
}

int ram_write(const struct ram *ram, const struct ram_run *runs, size_t n, const void *pages,
	      struct err *e)
{
	/* It is only read, but iovecs know no const. */
	return copy_all(ram, runs, n, true, (void *)(uintptr_t)pages, e);
}
