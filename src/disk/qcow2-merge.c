/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many layers become one. Theory of operation: for each cluster of the disk the topmost layer that
 * has it wins, be it bytes or zeros; what none has is left to what is below them. The new file is
 * written in one pass: cluster 0 is the header; behind it, for each table that is not empty, the
 * table and the clusters that it tells of; then L1 table, refcount blocks and refcount table. Every
 * cluster of it has one reference.
 *
 * The layers were written by a VMM, whose guest is nobody's friend: each offset is checked against
 * the file before it is used, and nothing but plain clusters is understood.
 */
#include "disk/qcow2-format.h"

#include "base/fd.h"
#include "base/str.h"
#include "disk/copy.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define OFFSET_MASK 0x00fffffffffffe00ULL
#define COPIED      (1ULL << 63)
#define COMPRESSED  (1ULL << 62)
#define ZERO        1ULL

enum { EXTENT_CLUSTERS = 256 }; /* 16 MiB: as much as is copied before a cancel is seen */

/* A layer that is read. */
struct source {
	int fd;             /* borrowed */
	uint64_t end_bytes; /* of the file, rounded up to clusters */
	uint64_t *l1;       /* as in the file; owned */
	uint64_t *l2;       /* of the part under way; owned; valid if has_l2 */
	bool has_l2;
};

struct merge {
	struct source sources[DISK_CHAIN_MAX];
	size_t n;
	int fd;            /* of the new layer; borrowed */
	uint64_t clusters; /* of the disk */
	uint32_t l1_entries;
	uint64_t next; /* cluster of the new file */
	uint64_t *l1;  /* of the new file; owned */
	uint64_t *l2;  /* owned */
};

/* Clusters that lie behind one another in a source, and will in the new file. */
struct extent {
	const struct source *from; /* NULL = none */
	uint64_t off_bytes;        /* there */
	uint64_t to_bytes;
	uint64_t clusters;
};

static void merge_done(struct merge *m)
{
	for (size_t i = 0; i < m->n; i++) {
		free(m->sources[i].l1);
		free(m->sources[i].l2);
	}
	free(m->l1);
	free(m->l2);
}

static uint64_t clusters_for(uint64_t bytes)
{
	return (bytes + CLUSTER_BYTES - 1) / CLUSTER_BYTES;
}

static int damaged(struct op *op, const char *what)
{
	return err_set(&op->err, ERR_SYSTEM, "a disk layer cannot be merged: %s", what);
}

/* Return: 0; -errno with op->err set. */
static int read_at(int fd, void *p, size_t n, uint64_t off_bytes, const char *what, struct op *op)
{
	int r = fd_pread_all(fd, p, n, off_bytes);

	if (r == -ENODATA)
		return damaged(op, what);
	return r < 0 ? err_errno(&op->err, -r, "read a disk layer to merge it") : 0;
}

/* Whether an offset of a source is that of a cluster within its file, behind the header. */
static bool is_cluster(const struct source *s, uint64_t off_bytes)
{
	return off_bytes != 0 && off_bytes % CLUSTER_BYTES == 0 && off_bytes < s->end_bytes;
}

static int source_open(struct source *s, int fd, uint32_t l1_entries, struct op *op)
{
	size_t l1_bytes = l1_entries * sizeof(s->l1[0]);
	struct qcow2_header h;
	struct stat st;
	uint64_t l1_offset;
	uint32_t own_entries;
	int r;

	s->fd = fd;
	s->l1 = calloc(1, l1_bytes);
	s->l2 = calloc(L2_ENTRIES, sizeof(s->l2[0]));
	if (s->l1 == NULL || s->l2 == NULL)
		return -ENOMEM;
	if (fstat(fd, &st) < 0)
		return -errno;
	r = read_at(fd, &h, sizeof(h), 0, "its header is cut off", op);
	if (r < 0)
		return r;
	s->end_bytes = ((uint64_t)st.st_size + CLUSTER_BYTES - 1) / CLUSTER_BYTES * CLUSTER_BYTES;
	l1_offset = be64toh(h.l1_offset);
	if (be32toh(h.snapshots) != 0)
		return damaged(op, "it has snapshots of its own");
	own_entries = qcow2_l1_entries(be64toh(h.size));
	if (own_entries < l1_entries) /* a disk that grew: nothing was there then */
		l1_bytes = own_entries * sizeof(s->l1[0]);
	if (be32toh(h.l1_entries) < MIN(own_entries, l1_entries) || !is_cluster(s, l1_offset) ||
	    l1_bytes > s->end_bytes - l1_offset)
		return damaged(op, "its L1 table");
	return read_at(fd, s->l1, l1_bytes, l1_offset, "its L1 table", op);
}

/* Reads a source's table of part @i of the disk, if it has one. */
static int load_l2(struct source *s, uint32_t i, struct op *op)
{
	uint64_t off_bytes = be64toh(s->l1[i]) & OFFSET_MASK;

	s->has_l2 = off_bytes != 0;
	if (!s->has_l2)
		return 0;
	if (!is_cluster(s, off_bytes))
		return damaged(op, "an entry of its L1 table");
	return read_at(s->fd, s->l2, CLUSTER_BYTES, off_bytes, "an entry of its L1 table", op);
}

static int copy_extent(struct extent *x, int fd)
{
	struct extent had = *x;

	*x = (struct extent){ .from = NULL };
	if (had.from == NULL)
		return 0;
	return disk_copy_range(had.from->fd, had.off_bytes, fd, had.to_bytes,
			       had.clusters * CLUSTER_BYTES);
}

/* Has a cluster of a source copied, together with those that lie before it there and here. */
static int add_cluster(struct merge *m, struct extent *x, const struct source *from,
		       uint64_t off_bytes, uint64_t to_bytes, struct op *op)
{
	uint64_t bytes = x->clusters * CLUSTER_BYTES;
	int r = 0;

	if (x->from == from && x->clusters < EXTENT_CLUSTERS && x->off_bytes + bytes == off_bytes &&
	    x->to_bytes + bytes == to_bytes) {
		x->clusters++;
		return 0;
	}
	r = op_check(op);
	if (r == 0)
		r = copy_extent(x, m->fd);
	*x = (struct extent){
		.from = from, .off_bytes = off_bytes, .to_bytes = to_bytes, .clusters = 1
	};
	return r;
}

/* What a cluster of the disk is. */
enum cluster { CLUSTER_OF_BASE, CLUSTER_ZERO, CLUSTER_BYTES_OF };

/* The cluster @j of the part: of the topmost source that has it. Return: enum cluster; -errno. */
static int find_cluster(const struct merge *m, uint32_t j, const struct source **out_from,
			uint64_t *out_off, struct op *op)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct source *s = &m->sources[i];
		uint64_t entry = s->has_l2 ? be64toh(s->l2[j]) : 0;
		uint64_t off_bytes = entry & OFFSET_MASK;

		if ((entry & COMPRESSED) != 0)
			return damaged(op, "it has compressed clusters");
		if ((entry & ZERO) != 0)
			return CLUSTER_ZERO;
		if (off_bytes == 0)
			continue;
		if (!is_cluster(s, off_bytes))
			return damaged(op, "an entry of an L2 table");
		*out_from = s;
		*out_off = off_bytes;
		return CLUSTER_BYTES_OF;
	}
	return CLUSTER_OF_BASE;
}

/* Return: 0; -errno. */
static int merge_cluster(struct merge *m, uint32_t j, struct extent *x, struct op *op)
{
	const struct source *from;
	uint64_t off_bytes;
	uint64_t to_bytes = m->next * CLUSTER_BYTES;
	int r = find_cluster(m, j, &from, &off_bytes, op);

	if (r == CLUSTER_ZERO)
		m->l2[j] = htobe64(ZERO);
	if (r != CLUSTER_BYTES_OF)
		return MIN(r, 0);
	m->l2[j] = htobe64(to_bytes | COPIED);
	m->next++;
	return add_cluster(m, x, from, off_bytes, to_bytes, op);
}

/* Reads the tables of a part. Return: 1 a source has something of it; 0; -errno. */
static int load_part(struct merge *m, uint32_t i, struct op *op)
{
	int any = 0;

	for (size_t k = 0; k < m->n; k++) {
		int r = load_l2(&m->sources[k], i, op);

		if (r < 0)
			return r;
		any |= m->sources[k].has_l2;
	}
	return any;
}

/* How many clusters a part has: what lies behind the disk's end is none of it. */
static uint32_t part_clusters(const struct merge *m, uint32_t i)
{
	return (uint32_t)MIN(m->clusters - (uint64_t)i * L2_ENTRIES, (uint64_t)L2_ENTRIES);
}

/* What one entry of the L1 tables tells of: 512 MiB of the disk. */
static int merge_part(struct merge *m, uint32_t i, struct op *op)
{
	struct extent x = { .from = NULL };
	uint64_t table = m->next;
	uint32_t n = part_clusters(m, i);
	int r = load_part(m, i, op);

	if (r <= 0)
		return r;
	r = 0;
	m->next++;
	memset(m->l2, 0, CLUSTER_BYTES);
	for (uint32_t j = 0; j < n && r == 0; j++)
		r = merge_cluster(m, j, &x, op);
	if (r == 0)
		r = copy_extent(&x, m->fd);
	if (r == 0)
		r = disk_write_at(m->fd, m->l2, CLUSTER_BYTES, table * CLUSTER_BYTES);
	m->l1[i] = htobe64(table * CLUSTER_BYTES | COPIED);
	return r;
}

/* Where the tables behind the clusters come to lie. */
struct tail {
	uint64_t l1;     /* cluster */
	uint64_t blocks; /* first refcount block */
	uint64_t n_blocks;
	uint64_t table; /* refcount table */
	uint64_t n_table;
	uint64_t end; /* clusters of the file */
};

/* The refcount blocks count themselves, too: their number is the least that is enough. */
static struct tail tail_of(const struct merge *m)
{
	struct tail t = { .l1 = m->next, .n_blocks = 1 };

	t.blocks = t.l1 + clusters_for((uint64_t)m->l1_entries * sizeof(m->l1[0]));
	for (;; t.n_blocks++) {
		t.n_table = clusters_for(t.n_blocks * sizeof(uint64_t));
		t.table = t.blocks + t.n_blocks;
		t.end = t.table + t.n_table;
		if (t.end <= t.n_blocks * REFCOUNTS_PER_BLOCK)
			return t;
	}
}

static int write_refcounts(const struct merge *m, const struct tail *t)
{
	static const uint64_t per_block = REFCOUNTS_PER_BLOCK;
	auto_free uint16_t *block = calloc(per_block, sizeof(*block));
	auto_free uint64_t *table = calloc(t->n_blocks, sizeof(*table));
	int r = block != NULL && table != NULL ? 0 : -ENOMEM;

	for (uint64_t i = 0; i < t->n_blocks && r == 0; i++) {
		uint64_t first = i * per_block;
		uint64_t n = t->end > first ? MIN(t->end - first, per_block) : 0;

		for (uint64_t k = 0; k < per_block; k++)
			block[k] = k < n ? htobe16(1) : 0;
		table[i] = htobe64((t->blocks + i) * CLUSTER_BYTES);
		r = disk_write_at(m->fd, block, CLUSTER_BYTES, (t->blocks + i) * CLUSTER_BYTES);
	}
	if (r == 0)
		r = disk_write_at(m->fd, table, t->n_blocks * sizeof(*table),
				  t->table * CLUSTER_BYTES);
	return r;
}

/* The tables, and last the header, without which the file is nothing. */
static int write_rest(const struct merge *m, uint64_t size_bytes, const char *backing)
{
	struct tail t = tail_of(m);
	struct qcow2_start start;
	int r = ftruncate(m->fd, (off_t)(t.end * CLUSTER_BYTES)) < 0 ? -errno : 0;

	if (r == 0)
		r = disk_write_at(m->fd, m->l1, m->l1_entries * sizeof(m->l1[0]),
				  t.l1 * CLUSTER_BYTES);
	if (r == 0)
		r = write_refcounts(m, &t);
	if (r < 0)
		return r;
	/* A layer lies in the same directory; a base never does. */
	qcow2_start_init(&start, size_bytes, backing, strchr(backing, '/') != NULL);
	start.header.l1_offset = htobe64(t.l1 * CLUSTER_BYTES);
	start.header.reftable_offset = htobe64(t.table * CLUSTER_BYTES);
	start.header.reftable_clusters = htobe32((uint32_t)t.n_table);
	return disk_write_at(m->fd, &start, sizeof(start), 0);
}

static int merge_open(struct merge *m, const int *fds, size_t n, struct op *op)
{
	int r = 0;

	m->l1 = calloc(m->l1_entries, sizeof(m->l1[0]));
	m->l2 = calloc(L2_ENTRIES, sizeof(m->l2[0]));
	if (m->l1 == NULL || m->l2 == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < n && r == 0; i++)
		r = source_open(&m->sources[m->n++], fds[i], m->l1_entries, op);
	return r;
}

int qcow2_merge(const int *fds, size_t n, int fd, uint64_t size_bytes, struct op *op)
{
	cleanup(merge_done) struct merge m = { .fd = fd,
					       .clusters = clusters_for(size_bytes),
					       .l1_entries = qcow2_l1_entries(size_bytes),
					       .next = 1 };
	char backing[BACKING_NAME_MAX + 1];
	int r = n > 0 && n <= ARRAY_SIZE(m.sources) ? 0 : -EINVAL;

	if (r == 0)
		r = qcow2_base(fds[n - 1], backing, sizeof(backing));
	if (r == 0)
		r = merge_open(&m, fds, n, op);
	for (uint32_t i = 0; i < m.l1_entries && r == 0; i++)
		r = merge_part(&m, i, op);
	return r < 0 ? r : write_rest(&m, size_bytes, backing);
}

static int write_zeros(int fd, uint64_t at)
{
	static const unsigned char zeros[CLUSTER_BYTES];

	if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)at, CLUSTER_BYTES) ==
	    0)
		return 0;
	return errno == EOPNOTSUPP ? disk_write_at(fd, zeros, sizeof(zeros), at) : -errno;
}

static int overlay_part(struct merge *m, uint32_t i, struct op *op)
{
	struct extent x = { .from = NULL };
	uint32_t n = part_clusters(m, i);
	int r = load_part(m, i, op);

	if (r <= 0)
		return r;
	r = 0;
	for (uint32_t j = 0; j < n && r == 0; j++) {
		uint64_t to_bytes = ((uint64_t)i * L2_ENTRIES + j) * CLUSTER_BYTES;
		const struct source *from;
		uint64_t off_bytes;

		r = find_cluster(m, j, &from, &off_bytes, op);
		if (r == CLUSTER_ZERO)
			r = write_zeros(m->fd, to_bytes);
		else if (r == CLUSTER_BYTES_OF)
			r = add_cluster(m, &x, from, off_bytes, to_bytes, op);
	}
	return r < 0 ? r : copy_extent(&x, m->fd);
}

int qcow2_overlay(const int *fds, size_t n, int fd, uint64_t size_bytes, struct op *op)
{
	cleanup(merge_done) struct merge m = { .fd = fd,
					       .clusters = clusters_for(size_bytes),
					       .l1_entries = qcow2_l1_entries(size_bytes) };
	int r = n > 0 && n <= ARRAY_SIZE(m.sources) ? 0 : -EINVAL;

	if (r == 0)
		r = merge_open(&m, fds, n, op);
	for (uint32_t i = 0; i < m.l1_entries && r == 0; i++)
		r = overlay_part(&m, i, op);
	return r;
}
