/* SPDX-License-Identifier: Apache-2.0 */
#include "base/fd.h"
#include "build/kernel-internal.h"
#include "build/unwrap.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>

static void reader_free(struct archive **a)
{
	archive_read_free(*a);
}

/* Named one by one: "all" would let input choose an external program to be run. */
static bool support_filters(struct archive *a)
{
	return unwrap_filters(a) && archive_read_support_filter_lzma(a) == ARCHIVE_OK &&
	       archive_read_support_filter_lz4(a) == ARCHIVE_OK &&
	       archive_read_support_format_raw(a) == ARCHIVE_OK;
}

static int refuse(const char *name, struct archive *a, struct err *e)
{
	const char *why = archive_error_string(a);

	return err_set(e, ERR_SYSTEM, "decompress %s: %s; the file is corrupt", name,
		       why != NULL ? why : "unknown compression");
}

static int copy_data(const char *name, struct archive *a, int out_fd, uint64_t *out_bytes,
		     struct err *e)
{
	uint64_t total = 0;

	for (;;) {
		char chunk[8192];
		la_ssize_t n = archive_read_data(a, chunk, sizeof(chunk));
		int r;

		if (n < 0)
			return refuse(name, a, e);
		if (n == 0)
			break;
		total += (uint64_t)n;
		if (total > KERNEL_BYTES_MAX)
			return err_set(e, ERR_SYSTEM, "decompress %s: more than %u MiB", name,
				       (unsigned)(KERNEL_BYTES_MAX >> 20));
		r = fd_write_all(out_fd, chunk, (size_t)n);
		if (r < 0)
			return err_errno(e, -r, "write decompressed %s", name);
	}
	if (out_bytes != NULL)
		*out_bytes = total;
	return 0;
}

int inflate_to_fd(const char *name, const void *p, size_t n, int out_fd, uint64_t *out_bytes,
		  struct err *e)
{
	cleanup(reader_free) struct archive *a = archive_read_new();
	struct archive_entry *entry;

	if (a == NULL)
		return err_errno(e, ENOMEM, "decompress %s", name);
	if (!support_filters(a))
		return err_set(e, ERR_UNSUPPORTED, "this libarchive lacks a compression: %s",
			       archive_error_string(a));
	if (archive_read_open_memory(a, p, n) != ARCHIVE_OK ||
	    archive_read_next_header(a, &entry) != ARCHIVE_OK)
		return refuse(name, a, e);
	/* Without a filter the raw format would hand out the bytes as they are. */
	if (archive_filter_count(a) < 2)
		return refuse(name, a, e);
	return copy_data(name, a, out_fd, out_bytes, e);
}
