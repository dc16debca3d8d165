/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Diffs of memory. Their checksums would keep almost all inputs out, so they are made right here;
 * one that is accepted becomes an image, whose pages are those of the diff or zeros.
 */
#include "base/fd.h"
#include "vmm/memfile-internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

enum { RAM_PAGES = 64, INPUT_MAX_BYTES = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool fact)
{
	if (!fact)
		abort();
}

static void mend_runs(struct memory_diff_run *runs, uint64_t n, const unsigned char *at,
		      uint64_t bytes)
{
	for (uint64_t i = 0; i < n; i++) {
		uint64_t len = (uint64_t)runs[i].n * RAM_PAGE_BYTES;

		if (runs[i].zero != 0 || len > bytes)
			continue;
		runs[i].sum = XXH3_64bits(at, len);
		at += len;
		bytes -= len;
	}
}

/* Makes the checksums right, as far as the sizes make sense. */
static void mend(unsigned char *file, size_t size)
{
	struct memory_diff_header h;
	uint64_t data_bytes;

	if (size < MEMORY_DIFF_HEADER_BYTES)
		return;
	memcpy(&h, file, sizeof(h));
	data_bytes = h.data_pages * RAM_PAGE_BYTES;
	if (h.data_pages <= RAM_PAGES && h.n_runs <= RAM_PAGES &&
	    MEMORY_DIFF_HEADER_BYTES + data_bytes + h.n_runs * sizeof(struct memory_diff_run) <=
		    size) {
		unsigned char *table = file + MEMORY_DIFF_HEADER_BYTES + data_bytes;

		mend_runs((void *)table, h.n_runs, file + MEMORY_DIFF_HEADER_BYTES, data_bytes);
		h.table_sum = XXH3_64bits(table, h.n_runs * sizeof(struct memory_diff_run));
	}
	h.header_sum = XXH3_64bits(&h, offsetof(struct memory_diff_header, header_sum));
	memcpy(file, &h, sizeof(h));
}

static int memory_file(const void *p, size_t n)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC);

	require(fd >= 0 && pwrite(fd, p, n, 0) == (ssize_t)n);
	return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static _Alignas(16) unsigned char file[INPUT_MAX_BYTES];
	static const struct memory_image none = MEMORY_IMAGE_INIT;
	auto_close int fd = -1;
	auto_close int image = memory_file("", 0);
	struct op op;
	int r;

	if (size > sizeof(file))
		return 0;
	memcpy(file, data, size);
	mend(file, size);
	fd = memory_file(file, size);
	op_init(&op, 0, -1);
	r = memory_verify(fd, RAM_PAGES * RAM_PAGE_BYTES, 0, &op);
	require((r < 0) == err_is_set(&op.err));
	op_init(&op, 0, -1);
	require((memory_merge(&none, fd, RAM_PAGES * RAM_PAGE_BYTES, image, &op) < 0) == (r < 0));
	require(r < 0 || lseek(image, 0, SEEK_END) == RAM_PAGES * RAM_PAGE_BYTES);
	return 0;
}
