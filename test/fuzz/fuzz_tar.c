/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The reader of tar streams. The first byte is the size of the pieces in which the stream arrives;
 * what comes out must be the same as when it arrives at once.
 */
#include "base/str.h"
#include "base/tar.h"

#include <stdlib.h>

enum { TEXT_MAX_BYTES = 64 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool fact)
{
	if (!fact)
		abort();
}

static void put_entry(struct buf *out, const struct tar_entry *e)
{
	require(e->mode <= 07777 && e->uid <= UINT32_MAX && e->gid <= UINT32_MAX);
	require(e->mtime_ns < 1000000000 && e->type >= TAR_FILE && e->type <= TAR_FIFO);
	require(e->type == TAR_FILE || e->size_bytes == 0);
	require(buf_printf(out, "\n%c %s -> %s %o %llu %llu %llu %lld.%u:", (char)e->type, e->path,
			   e->link, e->mode, (unsigned long long)e->uid, (unsigned long long)e->gid,
			   (unsigned long long)e->size_bytes, (long long)e->mtime_s,
			   e->mtime_ns) == 0);
	require(e->n_xattrs <= TAR_XATTRS_MAX);
	for (size_t i = 0; i < e->n_xattrs; i++)
		require(e->xattrs[i].name[0] != '\0' &&
			buf_printf(out, " %s=", e->xattrs[i].name) == 0 &&
			buf_append(out, e->xattrs[i].value, e->xattrs[i].n) == 0);
}

/* All that comes of a stream, as text. */
static void read_stream(const char *data, size_t size, size_t piece, struct buf *out)
{
	struct tar_reader *r = tar_reader_new();
	struct err e = { 0 };
	int event = TAR_MORE;

	for (size_t at = 0; event >= 0 && at < size; at += piece) {
		const char *p = data + at;
		size_t n = MIN(piece, size - at);
		const char *got;
		size_t len;

		while ((event = tar_next(r, &p, &n, &got, &len, &e)) > TAR_MORE) {
			if (event == TAR_ENTRY)
				put_entry(out, tar_reader_entry(r));
			else if (event == TAR_DATA)
				require(len > 0 && buf_append(out, got, len) == 0);
			else
				require(buf_puts(out, ".") == 0);
		}
		require(event < 0 || n == 0);
	}
	require((event < 0) == err_is_set(&e));
	require(buf_printf(out, "\n%s %d", e.msg, tar_reader_is_complete(r)) == 0);
	tar_reader_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	auto_buf whole = BUF_INIT(TEXT_MAX_BYTES);
	auto_buf pieces = BUF_INIT(TEXT_MAX_BYTES);

	if (size < 1)
		return 0;
	read_stream((const char *)data + 1, size - 1, size, &whole);
	read_stream((const char *)data + 1, size - 1, data[0] % 64 + 1U, &pieces);
	require(whole.len == pieces.len &&
		memcmp(buf_str(&whole), buf_str(&pieces), whole.len) == 0);
	return 0;
}
