/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/ram.h"

#include "base/fd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/uio.h>
#include <unistd.h>

#define PAGEMAP_PRESENT (1ULL << 63)
#define PAGEMAP_SWAPPED (1ULL << 62)
#define PAGEMAP_FILE    (1ULL << 61)

enum {
	SCAN_PAGES = 1024, /* entries that are read at once: 8 KiB */
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

static bool is_owned(uint64_t entry)
{
	return (entry & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED)) != 0 && (entry & PAGEMAP_FILE) == 0;
}

static void add_page(struct ram_runs *runs, uint32_t page)
{
	struct ram_run *last = runs->n > 0 ? &runs->at[runs->n - 1] : NULL;

	if (last != NULL && last->first + last->n == page && last->n < RAM_RUN_PAGES_MAX)
		last->n++;
	else
		ram_runs_push(runs, (struct ram_run){ .first = page, .n = 1 });
}

static int scan_part(int pagemap, const struct ram *ram, uint64_t page, size_t n,
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
			add_page(out, (uint32_t)(page + i));
	}
	return 0;
}

int ram_scan(const struct ram *ram, struct ram_runs *out, struct err *e)
{
	cleanup(ram_runs_done) struct ram_runs runs = { 0 };
	uint64_t n_pages = ram->bytes / RAM_PAGE_BYTES;
	auto_close int fd = -1;
	char path[64];
	int r = 0;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", ram->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, errno, "open %s", path);
	for (uint64_t page = 0; page < n_pages && r == 0; page += SCAN_PAGES)
		r = scan_part(fd, ram, page, MIN(n_pages - page, (uint64_t)SCAN_PAGES), &runs);
	if (r < 0)
		return err_errno(e, -r, "read %s", path);
	r = check_alive(ram, e);
	if (r < 0)
		return r;
	*out = runs;
	runs = (struct ram_runs){ 0 };
	return 0;
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
