/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What takes room on this host, and the removal of what nothing uses.
 *
 * Theory of operation. A template's version has to stay as long as a disk layer lies over it, of
 * a sandbox that runs, that is stopped, or that no row knows, or of a snapshot. Which one that
 * is, the layer itself records; when one of them does not tell, all versions stay. A kernel
 * stays while a row records it. What sandboxes under way use is in no row and no layer yet:
 * while there are any, no kernel and no initramfs goes, nor their templates.
 *
 * So a worker looks at the files, and the loop decides: in one turn, in which no sandbox can begin,
 * it holds the list against its sandboxes and takes away what goes by renaming it
 * (template/cache.h). Removing it then is a worker's again.
 */
#pragma once

#include "base/vec.h"
#include "sandbox/room.h"
#include "sandbox/sandbox.h"
#include "template/cache.h"

struct usage_sandbox {
	struct sandbox_id id;
	char name[NAME_MAX_LEN + 1]; /* "" = none, or no row */
	bool known;                  /* there is a row */
	char pool[NAME_MAX_LEN + 1]; /* template for whose creates it is kept ready; "" = none */
	uint64_t bytes;              /* allocated, all of its directory */
};
VEC_DEFINE(usage_sandboxes, struct usage_sandbox)

struct usage_snapshot {
	char name[2 * NAME_MAX_LEN + 2]; /* "<name>:<tag>" */
	uint64_t bytes;                  /* as above */
};
VEC_DEFINE(usage_snapshots, struct usage_snapshot)

struct usage {
	const char *state_dir; /* borrowed */
	const char *run_dir;   /* borrowed */
	struct cache_items cache;
	struct usage_sandboxes sandboxes;
	struct usage_snapshots snapshots;
	uint64_t run_bytes;
	uint64_t state_free_bytes; /* on their file systems, for others than root */
	uint64_t run_free_bytes;
	uint64_t state_reserve_bytes; /* below which nothing is made */
	struct room_memory memory;
};

/**
 * usage_start() - see what takes room
 * @done:	called once, later, on the loop; @usage is borrowed, NULL with @e on failure
 *
 * Thread: loop; a shutdown waits for it. Return: 0; -errno with @e set: refused.
 */
must_check int usage_start(struct manager *m,
			   void (*done)(const struct usage *usage, const struct err *e, void *arg),
			   void *arg, struct err *e);

enum prune_outcome {
	PRUNE_REMOVED, /* in a dry run: would be */
	PRUNE_KEPT,
	PRUNE_FAILED,
};

struct prune_item {
	enum cache_kind kind;
	char *name; /* owned */
	uint64_t bytes;
	enum prune_outcome outcome;
	char *why; /* of what was not removed; owned; else NULL */
};
VEC_DEFINE(prune_items, struct prune_item)

/**
 * prune_start() - remove what nothing uses: initramfs images of other agents, kernels, versions of
 * templates, what dead builds left; never sandboxes
 *
 * As usage_start().
 */
must_check int prune_start(struct manager *m, bool dry_run,
			   void (*done)(const struct prune_items *items, const struct err *e,
					void *arg),
			   void *arg, struct err *e);

/** prune_at_start() - remove the kernels and initramfs images that nothing uses, and log it: what a
 * new kernel or a new agent has made old; now, and whenever a kernel comes. Thread: loop */
void prune_at_start(struct manager *m);
