/* SPDX-License-Identifier: Apache-2.0 */
/* The format of diffs, for the files that write and read them (memfile.h describes it). */
#pragma once

#include "vmm/memfile.h"

#define MEMORY_DIFF_MAGIC "VIVDIFF"

/* Runs of the first version rise; in all else the two are the same. */
enum { MEMORY_DIFF_OLDEST = 1, MEMORY_DIFF_VERSION = 2, MEMORY_DIFF_HEADER_BYTES = 4096 };

/* So often may a page be in one file. */
enum { MEMORY_DIFF_PASSES_MAX = 8 };

struct memory_diff_header {
	char magic[8];
	uint32_t version;
	uint32_t page_bytes;
	uint64_t ram_bytes;
	uint64_t image_id;
	uint64_t n_runs;
	uint64_t data_pages;
	uint64_t table_sum;
	uint64_t header_sum; /* of what is before it */
};
static_assert(sizeof(struct memory_diff_header) == 64, "no padding");

struct memory_diff_run {
	uint32_t first;
	uint16_t n;    /* 1 .. RAM_RUN_PAGES_MAX */
	uint16_t zero; /* 1 = zeros, without bytes in the file */
	uint64_t sum;  /* of its bytes in the file */
};
static_assert(sizeof(struct memory_diff_run) == 16, "no padding");

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "as the file is");

/** memory_page_is_zero() - whether a page, which is aligned to 8 bytes, is all zeros */
bool memory_page_is_zero(const unsigned char *page);
