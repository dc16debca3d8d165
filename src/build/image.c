/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The root file system as an image. Its features are named one by one, so that it does not depend
 * on the host's mke2fs.conf; resize_inode keeps room for growing it a thousandfold while it is
 * mounted. The new file is all zeros, which mke2fs is told: neither it nor a guest's kernel ever
 * writes zeros into tables and journal, and the image has blocks for its contents alone.
 */
#include "base/str.h"
#include "build/template-internal.h"
#include "os/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
	BLOCK_BYTES = 4096,
	INODE_RATIO = 16384, /* one inode for so many bytes */
	INODE_BYTES = 256,
	META_MIB = 24, /* journal, group descriptors and the room for more of them, bitmaps */
};
static const uint64_t MIB = 1 << 20;
static const char features[] = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,"
			       "64bit,flex_bg,sparse_super,"
			       "large_file,huge_file,dir_nlink,extra_isize,metadata_csum";

struct usage {
	uint64_t bytes;
	uint64_t files;
};

static void close_fts(FTS **fts)
{
	if (*fts != NULL)
		fts_close(*fts);
}

/* By apparent size: the host's file system may compress. Each of n hard links counts as 1/n. */
static uint64_t blocks_of(const struct stat *st)
{
	uint64_t blocks = (uint64_t)st->st_size / BLOCK_BYTES + 1;

	return S_ISREG(st->st_mode) ? (blocks + st->st_nlink - 1) / st->st_nlink : blocks;
}

static int measure(const char *root, struct usage *out, struct op *op)
{
	auto_free char *copy = str_dup(root);
	char *const paths[] = { copy, NULL };
	cleanup(close_fts) FTS *fts = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR | FTS_XDEV, NULL);
	struct usage usage = { 0 };
	FTSENT *entry;

	if (fts == NULL)
		return err_errno(&op->err, errno, "read the template's root %s", root);
	while ((entry = fts_read(fts)) != NULL) {
		if (entry->fts_info == FTS_DP)
			continue;
		if (entry->fts_info == FTS_ERR || entry->fts_info == FTS_DNR ||
		    entry->fts_info == FTS_NS)
			return err_errno(&op->err, entry->fts_errno, "read %s", entry->fts_path);
		usage.files++;
		usage.bytes += blocks_of(entry->fts_statp) * BLOCK_BYTES;
	}
	*out = usage;
	return 0;
}

/* Contents with 3 % for extents and directories, room, and what the file system takes itself. */
static uint64_t size_mib(const struct usage *usage, uint64_t free_mib)
{
	uint64_t bytes = usage->bytes + usage->bytes / 32 + (free_mib + META_MIB) * MIB;

	bytes = bytes / (INODE_RATIO - INODE_BYTES) * INODE_RATIO;
	/* Many small files need inodes more than room; a quarter is left free. */
	bytes = MAX(bytes, usage->files * INODE_RATIO * 5 / 4);
	return bytes / MIB + 1;
}

int image_make(const char *root, const char *path, uint64_t free_mib, struct op *op)
{
	char size[32];
	const char *const argv[] = {
		"mke2fs", "-q",    "-F",
		"-t",     "ext4",  "-b",
		"4096",   "-I",    "256",
		"-i",     "16384", "-m",
		"0",      "-J",    "size=16",
		"-L",     "root",  "-O",
		features, "-E",    "root_owner=0:0,assume_storage_prezeroed=1",
		"-d",     root,    path,
		size,     NULL,
	};
	struct usage usage = { 0 };
	int r = measure(root, &usage, op);

	if (r < 0)
		return r;
	snprintf(size, sizeof(size), "%lluM", (unsigned long long)size_mib(&usage, free_mib));
	r = spawn_run(argv, NULL, NULL, op);
	return r < 0 ? err_wrap(&op->err, "make the image %s", path) : 0;
}
