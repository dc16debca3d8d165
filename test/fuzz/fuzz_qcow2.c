/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers that a VMM wrote anything into, merged. The input is a list of changes to two layers of a
 * small disk, each with a table and two clusters: 1 byte (which layer), 3 (offset), 8 (value).
 */
#include "base/fd.h"
#include "disk/qcow2-format.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CHANGE_BYTES = 12, CLUSTERS = 7, DISK_BYTES = 6 * CLUSTER_BYTES };
enum { L1_AT = 3 * CLUSTER_BYTES, L2_AT = 4 * CLUSTER_BYTES, DATA_AT = 5 * CLUSTER_BYTES };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool fact)
{
	if (!fact)
		abort();
}

static void poke(int fd, uint64_t off_bytes, uint64_t value)
{
	uint64_t n = htobe64(value);

	require(pwrite(fd, &n, sizeof(n), (off_t)off_bytes) == sizeof(n));
}

static int make_layer(const char *below, unsigned first)
{
	int fd = memfd_create("layer", MFD_CLOEXEC);
	struct op op;

	op_init(&op, 0, -1);
	require(fd >= 0 && disk_qcow2.fill(fd, "/", below, DISK_BYTES, &op) == 0);
	require(ftruncate(fd, CLUSTERS * CLUSTER_BYTES) == 0);
	poke(fd, L1_AT, 1ULL << 63 | L2_AT);
	poke(fd, L2_AT + 8 * first, 1ULL << 63 | DATA_AT);
	poke(fd, L2_AT + 8 * (first + 1), 1ULL << 63 | (DATA_AT + CLUSTER_BYTES));
	poke(fd, DATA_AT, first + 1);
	return fd;
}

static void change(const int *fds, const uint8_t *data)
{
	uint64_t off_bytes = (uint64_t)data[1] << 16 | (uint64_t)data[2] << 8 | data[3];
	uint64_t value;

	memcpy(&value, data + 4, sizeof(value));
	poke(fds[data[0] % 2], off_bytes % (CLUSTERS * CLUSTER_BYTES - sizeof(value)),
	     be64toh(value));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_close int top = make_layer("0.qcow2", 0);
	auto_close int lower = make_layer("/dev/null", 1);
	auto_close int merged = memfd_create("merged", MFD_CLOEXEC);
	const int fds[] = { top, lower };
	struct op op;
	int r;

	for (; size >= CHANGE_BYTES; size -= CHANGE_BYTES, data += CHANGE_BYTES)
		change(fds, data);
	for (int i = 0; i < 2; i++) {
		op_init(&op, 0, -1);
		if (disk_qcow2.check(fds[i], "layer", DISK_BYTES, false, &op) < 0)
			return 0;
	}
	op_init(&op, 0, -1);
	r = disk_qcow2.merge(fds, 2, merged, DISK_BYTES, &op);
	if (r < 0)
		return 0;
	require(!err_is_set(&op.err));
	require(disk_qcow2.check(merged, "merged", DISK_BYTES, true, &op) == 0);
	/* Header, L1, L2, refcounts in two, and at most the disk. */
	require(lseek(merged, 0, SEEK_END) <= DISK_BYTES + 5 * CLUSTER_BYTES);
	return 0;
}
