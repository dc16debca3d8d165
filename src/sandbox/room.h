/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the host has room for: memory, disk, open files, threads. What would take more is refused
 * before it begins; nobody is queued for room.
 *
 * Theory of operation. Memory: a sandbox that has a VM is counted as what that has to itself now,
 * and at least as its share of what it may have: its size by the overcommit factor, and what a VMM
 * takes. All of them together may not be counted as more than they have now, and what the kernel
 * says is available, less the reserve. So one that is about to start has its place from the
 * moment that it has a row; one that uses more than its share leaves less to others; and what
 * others on this host take is seen at once. Sandboxes that wait in pools give way to those that
 * somebody asked for.
 *
 * Disk: below the reserve nothing begins that is sure to take room: a sandbox, a checkpoint, a
 * pause with its memory, unless all are paused, as at the host's end. Those that run go on, until
 * there is none left at all, and then stand still until there is some again (frozen.c).
 *
 * All numbers are in MiB.
 */
#pragma once

#include "sandbox/sandbox.h"

/* As many sandboxes run at most: so many slots has an instance's block of addresses. */
enum { ROOM_SANDBOXES_MAX = 512 };

struct room_memory {
	uint64_t total;
	uint64_t available; /* as the kernel says */
	uint64_t reserve;
	uint64_t own;       /* what VMs have to themselves */
	uint64_t committed; /* what they are counted as */
	uint64_t waiting;   /* of that, those in pools */
};

/** room_counted() - as what a sandbox is counted that has @own to itself and may have @size */
uint64_t room_counted(uint64_t size, uint64_t own, unsigned overcommit);

/** room_most() - as what all of them may be counted */
uint64_t room_most(const struct room_memory *memory);

/** room_reserve() - what is kept of @total: @wish, or, if that is 0, a twentieth and at most @most
 */
uint64_t room_reserve(uint64_t wish, uint64_t total, uint64_t most);

/** room_memory_reserve() - what is left to a host that has @total */
uint64_t room_memory_reserve(const struct manager_config *config, uint64_t total);

/** room_memory() - how it is now; on a host that does not tell, available is UINT64_MAX */
void room_memory(const struct manager *m, struct room_memory *out);

struct room_disk {
	uint64_t total;
	uint64_t free; /* for others than root */
	uint64_t reserve;
};

/** room_disk() - of the file system where sandboxes are kept, or will be, with a reserve as it is
 * set; never waits but for a file system that is not of this host. Return: 0; -errno */
must_check int room_disk(const struct manager_config *config, struct room_disk *out);

/* Something of which each sandbox takes some. */
struct room_limit {
	uint64_t have;
	uint64_t shared; /* whatever runs */
	uint64_t each;
};

/** room_limit_sandboxes() - for how many it is enough */
uint64_t room_limit_sandboxes(const struct room_limit *limit);

/** room_limit_need() - how much @n sandboxes take */
uint64_t room_limit_need(const struct room_limit *limit, uint64_t n);

/** room_files() - open files of this process */
struct room_limit room_files(void);

/** room_threads() - threads of the host */
struct room_limit room_threads(void);
