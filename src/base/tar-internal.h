/* SPDX-License-Identifier: Apache-2.0 */
/* What the writer and the reader of tar streams share. */
#pragma once

#include "base/tar.h"

enum { TAR_NAME_BYTES = 100, TAR_NS_PER_S = 1000000000 };

/* Types that tell of the entry behind them. */
enum {
	TAR_PAX = 'x',
	TAR_PAX_GLOBAL = 'g',
	TAR_GNU_PATH = 'L',
	TAR_GNU_LINK = 'K',
	TAR_GNU_SPARSE = 'S',
	TAR_GNU_LABEL = 'V',
	TAR_CONTIGUOUS = '7',
};

/* The head of an entry as it is in the stream. */
struct tar_head {
	char name[TAR_NAME_BYTES];
	char mode[8];
	char uid[8];
	char gid[8];
	char size[12];
	char mtime[12];
	char checksum[8];
	char type;
	char link[TAR_NAME_BYTES];
	char magic[6];
	char version[2];
	char user[32];
	char group[32];
	char dev_major[8];
	char dev_minor[8];
	char prefix[155];
	char unused[12];
};
static_assert(sizeof(struct tar_head) == TAR_BLOCK_BYTES, "a head is a block");
