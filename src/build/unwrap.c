/* SPDX-License-Identifier: Apache-2.0 */
#include "build/unwrap.h"

#include "base/fd.h"
#include "base/str.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>

enum { CHUNK_BYTES = 65536 };

struct unwrap {
	const char *name;
	int fd;
	struct archive *archive;
	bool ended;
	struct sha256 file_sha;
	struct sha256 data_sha;
	char chunk[CHUNK_BYTES];
};

bool unwrap_filters(struct archive *a)
{
	return archive_read_support_filter_gzip(a) == ARCHIVE_OK &&
	       archive_read_support_filter_xz(a) == ARCHIVE_OK &&
	       archive_read_support_filter_bzip2(a) == ARCHIVE_OK &&
	       archive_read_support_filter_zstd(a) == ARCHIVE_OK;
}

static int refuse(const struct unwrap *u, struct err *e)
{
	const char *why = archive_error_string(u->archive);

	return err_set(e, ERR_INVALID, "read %s: %s", u->name,
		       why != NULL ? why : "it is of no known compression");
}

/* libarchive asks for the file's next bytes. */
static la_ssize_t on_read(struct archive *a, void *arg, const void **out)
{
	struct unwrap *u = arg;
	ssize_t n = fd_read_full(u->fd, u->chunk, sizeof(u->chunk));

	if (n < 0) {
		archive_set_error(a, (int)-n, "%s", strerrordesc_np((int)-n));
		return ARCHIVE_FATAL;
	}
	sha256_add(&u->file_sha, u->chunk, (size_t)n);
	*out = u->chunk;
	return n;
}

static int begin(struct unwrap *u, struct err *e)
{
	struct archive *a = u->archive;
	struct archive_entry *entry;
	int r;

	if (!unwrap_filters(a) || archive_read_support_format_raw(a) != ARCHIVE_OK ||
	    archive_read_support_format_empty(a) != ARCHIVE_OK)
		return err_set(e, ERR_UNSUPPORTED, "this libarchive lacks a compression: %s",
			       archive_error_string(a));
	if (archive_read_open(a, u, NULL, on_read, NULL) != ARCHIVE_OK)
		return refuse(u, e);
	r = archive_read_next_header(a, &entry);
	u->ended = r == ARCHIVE_EOF; /* nothing is in it */
	return r == ARCHIVE_OK || r == ARCHIVE_EOF ? 0 : refuse(u, e);
}

int unwrap_open(const char *name, int fd, struct unwrap **out, struct err *e)
{
	struct unwrap *u = xcalloc(1, sizeof(*u));
	int r;

	u->name = name;
	u->fd = fd;
	sha256_init(&u->file_sha);
	sha256_init(&u->data_sha);
	u->archive = archive_read_new();
	r = u->archive == NULL ? err_errno(e, ENOMEM, "read %s", name) : begin(u, e);
	if (r < 0)
		unwrap_free(u);
	else
		*out = u;
	return r;
}

/* What the decompressor had no use for is part of the file's digest as well. */
static int drain(struct unwrap *u, struct err *e)
{
	ssize_t n;

	do {
		n = fd_read_full(u->fd, u->chunk, sizeof(u->chunk));
		sha256_add(&u->file_sha, u->chunk, (size_t)MAX(n, 0));
	} while (n > 0);
	u->ended = true;
	return n < 0 ? err_errno(e, (int)-n, "read %s", u->name) : 0;
}

ssize_t unwrap_read(struct unwrap *u, char *p, size_t n, struct err *e)
{
	la_ssize_t got = u->ended ? 0 : archive_read_data(u->archive, p, n);

	if (got < 0)
		return refuse(u, e);
	if (got == 0)
		return drain(u, e);
	sha256_add(&u->data_sha, p, (size_t)got);
	return got;
}

void unwrap_digests(struct unwrap *u, char out_file[SHA256_HEX_SIZE],
		    char out_data[SHA256_HEX_SIZE])
{
	sha256_hex(&u->file_sha, out_file);
	sha256_hex(&u->data_sha, out_data);
}

void unwrap_free(struct unwrap *u)
{
	if (u == NULL)
		return;
	archive_read_free(u->archive);
	free(u);
}
