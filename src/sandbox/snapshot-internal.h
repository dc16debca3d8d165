/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the files of snapshots. */
#pragma once

#include "sandbox/sandbox-internal.h"
#include "sandbox/snapshots.h"

enum { SNAPSHOT_DIR_SIZE = SNAPSHOT_ID_SIZE + 8 };

/* Names in snapshots/ that begin with this are of none: being made, or being deleted. */
#define SNAPSHOT_NEW  ".new-"
#define SNAPSHOT_GONE ".gone-"

/* One that is being made of a sandbox (steps-snapshot.c). */
struct snapshot_draft {
	struct snapshot info; /* what it will say of itself; strings owned */
	int owner_fd; /* of the checkpoint that becomes it; borrowed; -1 = @from is shared */
	struct checkpoint_ref from; /* borrowed descriptor */
	int stage_fd;               /* owned; -1 */
	char stage[32];             /* its directory while it is made; "" = none */
	bool published;
	bool replaced; /* what had its place is under the stage's name now */
};

/* Makes a snapshot's directory of the checkpoint that res.snapshot names. */
extern const struct plan snapshot_plan;

/** snapshot_done() - free the strings; idempotent */
void snapshot_done(struct snapshot *s);

/** snapshot_describe() - the text of a snapshot.json; caller frees; NULL without memory */
char *snapshot_describe(const struct snapshot *s);

/** snapshot_parse() - read the text of a snapshot.json: all but id, bytes and checkpoint, of which
 * only the generation. Strings of @out are set on success only. Return: 0; -EBADMSG it is none */
must_check int snapshot_parse(const char *text, size_t n, struct snapshot *out);

/**
 * snapshot_read() - read what a snapshot's directory says of it
 * @dirfd:	borrowed
 * @out:	zeroed but for its id; its fault is set when it cannot be used
 *
 * Thread: any (reads two small files).
 */
void snapshot_read(const struct disk_ops *disk, int dirfd, struct snapshot *out);

/** snapshots_open() - open the directory of snapshots and list it, after removing what a killed
 * vivd left there. Return: 0; -errno with @e set */
must_check int snapshots_open(struct manager *m, struct err *e);

/** snapshots_close() - forget them; idempotent */
void snapshots_close(struct manager *m);

/** snapshots_reserve() - begin to make one: nobody else makes or removes one of that id meanwhile.
 * Return: 0; -errno with @e set (ERR_CONFLICT) */
must_check int snapshots_reserve(struct manager *m, const struct snapshot_name *id, struct err *e);

/**
 * snapshots_settle() - end what snapshots_reserve() began
 * @made:	whether it is there now
 *
 * Return: the new one, borrowed; NULL when none was made.
 */
const struct snapshot *snapshots_settle(struct manager *m, const struct snapshot_draft *draft,
					bool made);

/** snapshot_hold() - keep a snapshot's files, even if it is removed meanwhile. Return: descriptor
 * of its directory, borrowed until snapshot_let_go() */
must_check int snapshot_hold(const struct snapshot *s);

/** snapshot_let_go() - end one snapshot_hold() */
void snapshot_let_go(const struct snapshot *s);

/**
 * snapshot_create() - make a sandbox that goes on from a snapshot
 *
 * @spec:	as for sandbox_create(); sizes must be the snapshot's, if they are said
 *
 * Return: as sandbox_create_from(); ERR_INVALID: other sizes.
 */
must_check int snapshot_create(struct manager *m, const struct snapshot *s, struct db_sandbox *spec,
			       const struct create_told *told, struct err *e);
