/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tree.h"

#include "base/str.h"
#include "base/vec.h"

#include <errno.h>
#include <fts.h>
#include <sys/stat.h>

enum { STAT_BLOCK_BYTES = 512 };

static void close_fts(FTS **fts)
{
	if (*fts != NULL)
		fts_close(*fts);
}

static bool counts(const FTSENT *entry)
{
	return entry->fts_info != FTS_DP && entry->fts_info != FTS_NS &&
	       entry->fts_info != FTS_DNR && entry->fts_info != FTS_ERR;
}

/* A file of several names, and how many of them were met. */
struct shared_file {
	dev_t dev;
	ino_t ino;
	nlink_t names;
	nlink_t met;
	uint64_t bytes;
};
VEC_DEFINE(shared_files, struct shared_file)

static void meet(struct shared_files *files, const struct stat *st)
{
	uint64_t bytes = (uint64_t)st->st_blocks * STAT_BLOCK_BYTES;

	vec_foreach (file, files) {
		if (file->ino == st->st_ino && file->dev == st->st_dev) {
			file->met++;
			return;
		}
	}
	shared_files_push(files,
			  (struct shared_file){ st->st_dev, st->st_ino, st->st_nlink, 1, bytes });
}

static uint64_t bytes_of(const struct shared_files *files, bool own)
{
	uint64_t bytes = 0;

	vec_foreach (file, files) {
		if (!own || file->met == file->names)
			bytes += file->bytes;
	}
	return bytes;
}

static int tree_count(const char *path, bool own, uint64_t *out_bytes)
{
	cleanup(shared_files_done) struct shared_files files = { 0 };
	auto_free char *copy = str_dup(path);
	char *const paths[] = { copy, NULL };
	cleanup(close_fts) FTS *fts =
		fts_open(paths, FTS_PHYSICAL | FTS_COMFOLLOW | FTS_NOCHDIR | FTS_XDEV, NULL);
	uint64_t bytes = 0;
	FTSENT *entry;

	if (fts == NULL)
		return -errno;
	while ((entry = fts_read(fts)) != NULL) {
		if (entry->fts_level == FTS_ROOTLEVEL && !counts(entry) &&
		    entry->fts_info != FTS_DP)
			return -entry->fts_errno;
		if (counts(entry) && entry->fts_info != FTS_D && entry->fts_statp->st_nlink > 1)
			meet(&files, entry->fts_statp);
		else if (counts(entry))
			bytes += (uint64_t)entry->fts_statp->st_blocks * STAT_BLOCK_BYTES;
	}
	*out_bytes = bytes + bytes_of(&files, own);
	return 0;
}

int tree_allocated(const char *path, uint64_t *out_bytes)
{
	return tree_count(path, false, out_bytes);
}

int tree_own(const char *path, uint64_t *out_bytes)
{
	return tree_count(path, true, out_bytes);
}
