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

#include "base/str.h"

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

static int read_at(int fd, void *p, size_t n, uint64_t off_bytes)
{
	char *at = p;

	while (n > 0) {
		ssize_t got = pread(fd, at, n, (off_t)off_bytes);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return -EBADMSG;
		at += got;
		off_bytes += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

static int write_at(int fd, const void *p, size_t n, uint64_t off_bytes)
{
	const char *at = p;

	while (n > 0) {
		ssize_t put = pwrite(fd, at, n, (off_t)off_bytes);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		at += put;
		off_bytes += (uint64_t)put;
		n -= (size_t)put;
	}
	return 0;
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

	s->fd = fd;
	s->l1 = calloc(1, l1_bytes);
	s->l2 = calloc(L2_ENTRIES, sizeof(s->l2[0]));
	if (s->l1 == NULL || s->l2 == NULL)
		return -ENOMEM;
	if (fstat(fd, &st) < 0)
		return -errno;
	if (read_at(fd, &h, sizeof(h), 0) < 0)
		return damaged(op, "its header is cut off");
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
	return read_at(fd, s->l1, l1_bytes, l1_offset) < 0 ? damaged(op, "its L1 table") : 0;
}

/* Reads a source's table of part @i of the disk, if it has one. */
static int load_l2(struct source *s, uint32_t i, struct op *op)
{
	uint64_t off_bytes = be64toh(s->l1[i]) & OFFSET_MASK;

	s->has_l2 = off_bytes != 0;
	if (!s->has_l2)
		return 0;
	if (!is_cluster(s, off_bytes) || read_at(s->fd, s->l2, CLUSTER_BYTES, off_bytes) < 0)
		return damaged(op, "an entry of its L1 table");
	return 0;
}

static int copy_by_hand(const struct extent *x, int fd, uint64_t done, uint64_t bytes)
{
	unsigned char chunk[4096];

	while (done < bytes) {
		size_t n = MIN(sizeof(chunk), bytes - done);
		ssize_t got = pread(x->from->fd, chunk, n, (off_t)(x->off_bytes + done));
		int r;

		if (got < 0)
			return -errno;
		if (got == 0)
			return 0; /* zeros, as in the new file */
		r = write_at(fd, chunk, (size_t)got, x->to_bytes + done);
		if (r < 0)
			return r;
		done += (uint64_t)got;
	}
	return 0;
}

/* A source may end within its last cluster, the rest of which is zeros. */
static int copy_extent(struct extent *x, int fd)
{
	uint64_t bytes = x->clusters * CLUSTER_BYTES;
	uint64_t done = 0;
	int r = 0;

	while (x->from != NULL && done < bytes) {
		off_t in = (off_t)(x->off_bytes + done);
		off_t out = (off_t)(x->to_bytes + done);
		ssize_t n = copy_file_range(x->from->fd, &in, fd, &out, bytes - done, 0);

		if (n == 0)
			break;
		if (n < 0 && (errno == ENOSPC || errno == EIO || errno == EDQUOT))
			return -errno;
		if (n < 0) { /* a file system without it */
			r = copy_by_hand(x, fd, done, bytes);
			break;
		}
		done += (uint64_t)n;
	}
	*x = (struct extent){ .from = NULL };
	return r;
}

static int add_cluster(struct merge *m, struct extent *x, const struct source *from,
		       uint64_t off_bytes, struct op *op)
{
	uint64_t to_bytes = m->next * CLUSTER_BYTES;
	bool joins = x->from == from && x->clusters < EXTENT_CLUSTERS &&
		     x->off_bytes + x->clusters * CLUSTER_BYTES == off_bytes;
	int r = 0;

	m->next++;
	if (joins) {
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

/* The cluster @j of the part: of the topmost source that has it. Return: 0; -errno. */
static int merge_cluster(struct merge *m, uint32_t j, struct extent *x, struct op *op)
{
	for (size_t i = 0; i < m->n; i++) {
		const struct source *s = &m->sources[i];
		uint64_t entry = s->has_l2 ? be64toh(s->l2[j]) : 0;
		uint64_t off_bytes = entry & OFFSET_MASK;

		if ((entry & COMPRESSED) != 0)
			return damaged(op, "it has compressed clusters");
		if ((entry & ZERO) != 0) {
			m->l2[j] = htobe64(ZERO);
			return 0;
		}
		if (off_bytes == 0)
			continue;
		if (!is_cluster(s, off_bytes))
			return damaged(op, "an entry of an L2 table");
		m->l2[j] = htobe64(m->next * CLUSTER_BYTES | COPIED);
		return add_cluster(m, x, s, off_bytes, op);
	}
	return 0;
}

/* What one entry of the L1 tables tells of: 512 MiB of the disk. */
static int merge_part(struct merge *m, uint32_t i, struct op *op)
{
	struct extent x = { .from = NULL };
	uint64_t table = m->next;
	uint64_t n;
	bool any = false;
	int r = 0;

	for (size_t k = 0; k < m->n && r == 0; k++) {
		r = load_l2(&m->sources[k], i, op);
		any |= m->sources[k].has_l2;
	}
	if (r < 0 || !any)
		return r;
	m->next++;
	n = MIN(m->clusters - (uint64_t)i * L2_ENTRIES, (uint64_t)L2_ENTRIES);
	memset(m->l2, 0, CLUSTER_BYTES);
	for (uint32_t j = 0; j < n && r == 0;
	     j++) /* what lies behind the disk's end is none of it */
		r = merge_cluster(m, j, &x, op);
	if (r == 0)
		r = copy_extent(&x, m->fd);
	if (r == 0)
		r = write_at(m->fd, m->l2, CLUSTER_BYTES, table * CLUSTER_BYTES);
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
		r = write_at(m->fd, block, CLUSTER_BYTES, (t->blocks + i) * CLUSTER_BYTES);
	}
	if (r == 0)
		r = write_at(m->fd, table, t->n_blocks * sizeof(*table), t->table * CLUSTER_BYTES);
	return r;
}

/* The tables, and last the header, without which the file is nothing. */
static int write_rest(const struct merge *m, uint64_t size_bytes, const char *backing)
{
	struct tail t = tail_of(m);
	struct qcow2_start start;
	int r = ftruncate(m->fd, (off_t)(t.end * CLUSTER_BYTES)) < 0 ? -errno : 0;

	if (r == 0)
		r = write_at(m->fd, m->l1, m->l1_entries * sizeof(m->l1[0]), t.l1 * CLUSTER_BYTES);
	if (r == 0)
		r = write_refcounts(m, &t);
	if (r < 0)
		return r;
	/* A layer lies in the same directory; a base never does. */
	qcow2_start_init(&start, size_bytes, backing, strchr(backing, '/') != NULL);
	start.header.l1_offset = htobe64(t.l1 * CLUSTER_BYTES);
	start.header.reftable_offset = htobe64(t.table * CLUSTER_BYTES);
	start.header.reftable_clusters = htobe32((uint32_t)t.n_table);
	return write_at(m->fd, &start, sizeof(start), 0);
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
