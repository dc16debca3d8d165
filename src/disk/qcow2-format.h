/* SPDX-License-Identifier: Apache-2.0 */
/* QEMU's qcow2 format, version 3, as far as layers of ours have it (docs/interop/qcow2.txt). */
#pragma once

#include "disk/disk-driver.h"

enum {
	QCOW2_MAGIC = 0x514649fb, /* "QFI\xfb" */
	QCOW2_VERSION = 3,
	CLUSTER_BITS = 16,
	CLUSTER_BYTES = 1 << CLUSTER_BITS,
	L2_ENTRIES = CLUSTER_BYTES / 8,
	REFCOUNT_ORDER = 4, /* 16 bits each */
	REFCOUNTS_PER_BLOCK = CLUSTER_BYTES / 2,
	EXTENSION_BACKING_FORMAT = (int)0xe2792aca,
	BACKING_NAME_MAX = 1023,
};

struct qcow2_header {
	uint32_t magic;
	uint32_t version;
	uint64_t backing_offset;
	uint32_t backing_bytes;
	uint32_t cluster_bits;
	uint64_t size;
	uint32_t crypt_method;
	uint32_t l1_entries;
	uint64_t l1_offset;
	uint64_t reftable_offset;
	uint32_t reftable_clusters;
	uint32_t snapshots;
	uint64_t snapshots_offset;
	uint64_t incompatible;
	uint64_t compatible;
	uint64_t autoclear;
	uint32_t refcount_order;
	uint32_t header_bytes;
};
static_assert(sizeof(struct qcow2_header) == 104, "as the format lays it out");

/* The start of a file of ours: what comes between header and name is fixed. */
struct qcow2_start {
	struct qcow2_header header;
	uint32_t format_type;
	uint32_t format_bytes;
	char format[8];
	uint32_t end_type;
	uint32_t end_bytes;
	char backing[BACKING_NAME_MAX];
};
static_assert(offsetof(struct qcow2_start, backing) == 128, "no padding");

/** qcow2_l1_entries() - how many entries the L1 table of a disk of this size has */
uint32_t qcow2_l1_entries(uint64_t size_bytes);

/**
 * qcow2_start_init() - the beginning of an empty layer of ours
 * @backing:	name of what is below it, at most BACKING_NAME_MAX bytes
 * @raw:	whether that is raw, or qcow2
 */
void qcow2_start_init(struct qcow2_start *s, uint64_t size_bytes, const char *backing, bool raw);

/** qcow2_base() - disk_ops.base */
must_check int qcow2_base(int fd, char *out, size_t size);

/** qcow2_overlay() - disk_ops.overlay */
must_check int qcow2_overlay(const int *fds, size_t n, int fd, uint64_t size_bytes, struct op *op);

/** qcow2_merge() - disk_ops.merge */
must_check int qcow2_merge(const int *fds, size_t n, int fd, uint64_t size_bytes, struct op *op);
