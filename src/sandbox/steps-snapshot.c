/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making a snapshot's directory, as a plan. Its checkpoint is there: a passing one of a sandbox
 * that runs, which is moved, or that of a paused one, which is shared. All of it is made as
 * `snapshots/.new-<random>/`, and appears by one rename; one that had the name is exchanged with it
 * by the same rename, and goes afterwards.
 */
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "sandbox/snapshot-internal.h"
#include "sandbox/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

enum { RANDOM_CHARS = 16 };

static int stage_acquire(struct sandbox *sb, struct op *op)
{
	struct snapshot_draft *d = sb->res.snapshot;
	char random[RANDOM_CHARS + 1];
	int dir = sb->m->snapshots_fd;

	random_hex(random, RANDOM_CHARS);
	ignore_err(str_fit(d->stage, sizeof(d->stage), SNAPSHOT_NEW "%s", random)); /* fits */
	if (mkdirat(dir, d->stage, 0700) < 0)
		return err_errno(&op->err, errno, "make a directory for a snapshot");
	d->stage_fd = openat(dir, d->stage, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return d->stage_fd < 0 ? err_errno(&op->err, errno, "open a new snapshot's directory") : 0;
}

static int stage_release(struct sandbox *sb, struct op *op)
{
	struct snapshot_draft *d = sb->res.snapshot;
	int r = d->stage[0] != '\0' ? file_remove_tree_at(sb->m->snapshots_fd, d->stage) : 0;

	fd_close(&d->stage_fd);
	return r < 0 ? err_errno(&op->err, -r, "remove an unfinished snapshot") : 0;
}

static int checkpoint_acquire(struct sandbox *sb, struct op *op)
{
	const struct snapshot_draft *d = sb->res.snapshot;
	const struct checkpoint *c = &d->from.checkpoint;

	if (d->owner_fd >= 0)
		return checkpoint_move(d->owner_fd, d->stage_fd, c->generation, op);
	return checkpoint_link(d->from.fd, d->stage_fd, c, op);
}

static int describe_acquire(struct sandbox *sb, struct op *op)
{
	const struct snapshot_draft *d = sb->res.snapshot;
	auto_free char *text = snapshot_describe(&d->info);
	int r = text == NULL ? -ENOMEM
			     : file_write_atomic_at(d->stage_fd, "snapshot.json", text,
						    strlen(text), 0600);

	return r < 0 ? err_errno(&op->err, -r, "write the snapshot's snapshot.json") : 0;
}

/* From here on sandboxes can be made of it. */
static int publish_acquire(struct sandbox *sb, struct op *op)
{
	struct snapshot_draft *d = sb->res.snapshot;
	int dir = sb->m->snapshots_fd;
	char name[SNAPSHOT_ID_SIZE];
	int r;

	snapshot_id(&d->info, name);
	r = renameat2(dir, d->stage, dir, name, RENAME_NOREPLACE) < 0 ? -errno : 0;
	if (r == -EEXIST) {
		r = renameat2(dir, d->stage, dir, name, RENAME_EXCHANGE) < 0 ? -errno : 0;
		d->replaced = r == 0;
	}
	d->published = r == 0;
	if (r == 0)
		r = file_sync_dir(dir);
	return r < 0 ? err_errno(&op->err, -r, "name the snapshot %s", name) : 0;
}

static int publish_release(struct sandbox *sb, struct op *op)
{
	struct snapshot_draft *d = sb->res.snapshot;
	int dir = sb->m->snapshots_fd;
	char name[SNAPSHOT_ID_SIZE];

	if (!d->published)
		return 0;
	snapshot_id(&d->info, name);
	if (renameat2(dir, name, dir, d->stage, d->replaced ? RENAME_EXCHANGE : RENAME_NOREPLACE) <
	    0) {
		d->stage[0] = '\0'; /* it is not what the stage was made for */
		return err_errno(&op->err, errno, "take back the snapshot %s", name);
	}
	d->published = d->replaced = false;
	return 0;
}

static const struct step snapshot_steps[] = {
	{ "stage", STEP_VOLATILE, stage_acquire, stage_release, NULL },
	{ "checkpoint", STEP_VOLATILE, checkpoint_acquire, NULL, NULL },
	{ "describe", STEP_VOLATILE, describe_acquire, NULL, NULL },
	{ "publish", STEP_VOLATILE, publish_acquire, publish_release, NULL },
};

const struct plan snapshot_plan = { "snapshot", snapshot_steps, ARRAY_SIZE(snapshot_steps) };
