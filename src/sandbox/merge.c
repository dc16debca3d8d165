/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Each checkpoint puts a layer on a sandbox's disk. So behind it, when there are many, some below
 * the top one become one (disk/merge.c), on a worker, and while it goes on: the sandbox is not
 * busy, since layers that are only read are nobody's business. Those that are new are sealed then.
 * What was made waits in the sandbox until its next checkpoint, whose first steps put it in place
 * and tell the VMM. Only checkpoints make chains longer, so there is no earlier need.
 *
 * Whatever else becomes of the sandbox ends a merge that is under way, and forgets one that waits:
 * it has no name yet, so nothing is left. One merge at a time for all sandboxes: whom it does not
 * reach does it itself when its disk has no room for another layer.
 */
#include "base/fd.h"
#include "base/log.h"
#include "base/str.h"
#include "os/work.h"
#include "sandbox/fault.h"
#include "sandbox/steps.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>

struct merge {
	struct manager *m;
	struct sandbox *sb; /* NULL = it is of no use any more */
	const struct disk_ops *disk;
	struct disk_spec spec; /* its dirfd is owned */
	int cancel_fd;         /* owned */
	struct op op;
	int result;
	struct disk_merge made;
};

static void merge_free(struct merge *g)
{
	disk_merge_done(&g->made);
	fd_close(&g->cancel_fd);
	fd_close(&g->spec.dirfd);
	free(g);
}

/* The checkpoint ended well, so the VM writes to the top layer, and to no other. */
static void merge_work(void *arg)
{
	struct merge *g = arg;

	g->result = fault_point(g->op.fault, "merge", "begin", "before", &g->op.err);
	if (g->result == 0)
		g->result = disk_merge_begin(g->disk, &g->spec, 1, &g->made, &g->op);
	if (g->result >= 0 && disk_seal(g->disk, &g->spec, 1, &g->op) < 0)
		g->result = -EIO; /* what was made is good all the same */
}

static void merge_done(void *arg)
{
	struct merge *g = arg;
	struct manager *m = g->m;
	struct sandbox *sb = g->sb;

	m->merging = false;
	m->n_busy--;
	if (sb != NULL) {
		sb->merge = NULL;
		if (g->result < 0)
			log_warning("sandbox.merge_failed", kv_str("id", sb->row.id.s),
				    kv_str("error", g->op.err.msg));
		sb->merged = g->made;
		g->made = (struct disk_merge)DISK_MERGE_INIT;
	}
	merge_free(g);
	manager_operation_ended(m);
}

void merge_start(struct sandbox *sb)
{
	struct manager *m = sb->m;
	struct merge *g;

	if (m->closing || m->merging || sb->merge != NULL || sb->row.state != DB_RUNNING)
		return;
	g = xcalloc(1, sizeof(*g));
	*g = (struct merge){ .m = m,
			     .sb = sb,
			     .disk = m->disk,
			     .spec = disk_spec_of(sb),
			     .cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
			     .made = DISK_MERGE_INIT };
	g->spec.dirfd = fcntl(sb->res.dirfd, F_DUPFD_CLOEXEC, 3);
	if (g->spec.dirfd < 0 || g->cancel_fd < 0) {
		merge_free(g); /* no descriptor is free: the next checkpoint tries again */
		return;
	}
	op_init(&g->op, 0, g->cancel_fd);
	g->op.fault = m->config.fault;
	disk_merge_done(&sb->merged); /* one that was not taken: there is a newer one */
	sb->merge = g;
	m->merging = true;
	m->n_busy++;
	work_submit(m->loop, merge_work, merge_done, g);
}

void merge_forget(struct sandbox *sb)
{
	struct merge *g = take_ptr(&sb->merge);

	disk_merge_done(&sb->merged);
	if (g == NULL)
		return;
	g->sb = NULL;
	ignore_err(eventfd_write(g->cancel_fd, 1)); /* it cannot overflow by ones */
}

/* Has the VM read its disk through the layers that it consists of now. Return: 0, and how many of
 * the top it may still write to; -errno with op->err set. */
static int tell_vmm(struct sandbox *sb, const struct disk_spec *spec, size_t *out_live,
		    struct op *op)
{
	cleanup(disk_done) struct disk disk = { .n = 0 };
	struct vmm_image images[DISK_CHAIN_MAX];
	size_t top = 0;
	int r = disk_open(sb->m->disk, spec, &disk, op);

	if (r == 0) {
		disk_images(&disk, images);
		r = vmm_set_chain(sb->res.vmm, images, disk.n, &top, op);
	}
	*out_live = top + 1;
	return r;
}

static int put_in_place(struct sandbox *sb, const struct disk_spec *spec, struct op *op)
{
	int r = disk_merge_end(sb->m->disk, spec, &sb->res.merged, op);

	if (r <= 0)
		return r;
	log_info("sandbox.disk_merged", kv_str("id", sb->row.id.s),
		 kv_u64("layers", disk_layers(sb->m->disk, spec->dirfd)));
	/* The VM reads layers yet that have no name any more. */
	return fault_point(op->fault, "merge", "place", "after", &op->err) ?: r;
}

static bool is_full(const struct sandbox *sb)
{
	return disk_layers(sb->m->disk, sb->res.dirfd) >= DISK_CHAIN_MAX - 1;
}

/* While there is room for another layer a failure is nobody's but ours. */
static int unless_full(struct sandbox *sb, int r, struct op *op)
{
	if (r >= 0 || is_full(sb))
		return MIN(r, 0);
	log_warning("sandbox.merge_failed", kv_str("id", sb->row.id.s),
		    kv_str("error", op->err.msg));
	op->err = (struct err){ 0 };
	return 0;
}

int merge_acquire(struct sandbox *sb, struct op *op)
{
	struct disk_spec spec = disk_spec_of(sb);

	return unless_full(sb, put_in_place(sb, &spec, op), op);
}

int chain_acquire(struct sandbox *sb, struct op *op)
{
	struct disk_spec spec = disk_spec_of(sb);
	size_t live = 1;
	int r = tell_vmm(sb, &spec, &live, op);

	if (r == 0 && is_full(sb)) {
		r = disk_merge_begin(sb->m->disk, &spec, live, &sb->res.merged, op);
		if (r > 0)
			r = put_in_place(sb, &spec, op);
		if (r > 0)
			r = tell_vmm(sb, &spec, &live, op);
	}
	return unless_full(sb, r, op);
}
