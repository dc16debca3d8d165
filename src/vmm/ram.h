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

struct ram {
	pid_t pid;
	int pidfd;        /* of that process, borrowed: tells that the pid was not another's */
	uint64_t address; /* in its address space */
	uint64_t bytes;   /* a multiple of RAM_PAGE_BYTES */
};

/* Pages that follow one another. */
struct ram_run {
	uint32_t first; /* number of the page in the guest's RAM */
	uint32_t n;     /* 1 .. RAM_RUN_PAGES_MAX */
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
