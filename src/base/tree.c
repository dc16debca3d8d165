/* SPDX-License-Identifier: Apache-2.0 */
#include "base/tree.h"

#include "base/str.h"

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

int tree_allocated(const char *path, uint64_t *out_bytes)
{
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
		if (counts(entry))
			bytes += (uint64_t)entry->fts_statp->st_blocks * STAT_BLOCK_BYTES;
	}
	*out_bytes = bytes;
	return 0;
}
