/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's RAM as its VMM's process has it: one mapping of anonymous or privately mapped memory.
 * What a guest owns of it are the pages that are anonymous: of an anonymous mapping all that were
 * touched, of a private mapping of a file those that were written. Everything else reads as the
 * file does, or as zeros. All functions block (workers) and need root, or the VMM's user id and
 * CAP_SYS_ADMIN.
 */
#pragma once

#include "base/err.h"
#include "base/vec.h"

#include <sys/types.h>

enum { RAM_PAGE_BYTES = 4096, RAM_RUN_PAGES_MAX = 256 };

/* The number of the userfaultfd in the VMM's process (shim/vmm-shim.c). */
enum { RAM_UFFD = 9 };

struct ram {
	pid_t pid;
	int pidfd;        /* of that process, borrowed: tells that the pid was not another's */
	uint64_t address; /* in its address space */
	uint64_t bytes;   /* a multiple of RAM_PAGE_BYTES */
};

/* Pages that follow one another. */
struct ram_run {
	uint32_t first; /* number of the page in the guest's RAM */
	uint16_t n;     /* 1 .. RAM_RUN_PAGES_MAX */
	bool written;   /* since ram_track(); true if nobody did */
};
VEC_DEFINE(ram_runs, struct ram_run)

/**
 * ram_scan() - which pages the guest owns
 * @out:	in rising order; ram_runs_done() frees it; empty on failure
 *
 * The list holds for as long as the vCPUs do not run. (Pages that are present or swapped and not
 * of a file: bits 63, 62 and 61 of /proc/PID/pagemap, Documentation/admin-guide/mm/pagemap.rst.)
 * Return: 0; -errno with @e set.
 */
must_check int ram_scan(const struct ram *ram, struct ram_runs *out, struct err *e);

/**
 * ram_track() - have the kernel note which pages the guest writes to from now on
 * @out_owned:	as of ram_scan(): the pages it owned just then
 * @out_fd:	for ram_untrack(), which closes it
 *
 * The guest may run. What is read of a page that ram_scan() says was not written since is what the
 * page holds. (The pages are write-protected, and the kernel takes that off one that is written to:
 * userfaultfd with UFFD_FEATURE_WP_ASYNC, made by viv-vmm-shim.so, and PAGEMAP_SCAN; Linux 6.7.)
 *
 * Return: 1; 0 this kernel or VMM cannot, or has become another; -errno with @e set.
 */
must_check int ram_track(const struct ram *ram, struct ram_runs *out_owned, int *out_fd,
			 struct err *e);

/**
 * ram_track_again() - which pages were written to since ram_track(), or since this; and from now on
 * @out:	in rising order; ram_runs_done() frees it; empty on failure
 *
 * One that the guest gave back is not among them: ram_scan() tells. Return: 0; -errno with @e set.
 */
must_check int ram_track_again(const struct ram *ram, struct ram_runs *out, struct err *e);

/** ram_untrack() - no more of that; may take a millisecond per GiB, in which the guest waits if it
 * needs a page */
void ram_untrack(const struct ram *ram, int fd);

/** ram_runs_add() - add pages to a list, behind or above what is in it */
void ram_runs_add(struct ram_runs *runs, uint64_t page, uint64_t n, bool written);

/** ram_runs_pages() - how many pages they are */
uint64_t ram_runs_pages(const struct ram_runs *runs);

/**
 * ram_read() - copy runs out of the guest, one behind the other
 * @out:	room for all their pages
 *
 * Return: 0; -errno with @e set: ERR_VMM when the process ended.
 */
must_check int ram_read(const struct ram *ram, const struct ram_run *runs, size_t n, void *out,
			struct err *e);

/** ram_write() - put pages, one run behind the other, into a guest whose vCPUs do not run. Return:
 * as ram_read() */
must_check int ram_write(const struct ram *ram, const struct ram_run *runs, size_t n,
			 const void *pages, struct err *e);
