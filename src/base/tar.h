/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tar format, as bytes: what is written is POSIX pax, what is read is that and GNU's and old
 * forms of names and numbers. No files here: os/pack.c and os/unpack.c have to do with them.
 *
 * What a stream says is nobody's to trust: paths come out as they were sent.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

enum {
	TAR_BLOCK_BYTES = 512,
	TAR_EXTENSION_MAX_BYTES = 64 << 10, /* of the long names and numbers of an entry */
	TAR_XATTRS_MAX = 64,
};

enum tar_type {
	TAR_FILE = '0',
	TAR_HARDLINK = '1',
	TAR_SYMLINK = '2',
	TAR_CHARDEV = '3',
	TAR_BLOCKDEV = '4',
	TAR_DIR = '5',
	TAR_FIFO = '6',
};

/* An extended attribute of an entry that is read. */
struct tar_xattr {
	char *name;
	char *value;
	size_t n;
};

/* An entry. Its strings are borrowed. */
struct tar_entry {
	const char *path;
	const char *link; /* where a link leads to; "" = it is none */
	enum tar_type type;
	uint32_t mode; /* permission bits, 07777 at most */
	uint64_t uid;
	uint64_t gid;
	uint64_t size_bytes; /* 0 of what is no file */
	int64_t mtime_s;
	uint32_t mtime_ns;  /* below 10^9 */
	uint32_t dev_major; /* of devices; read, not written, as all below */
	uint32_t dev_minor;
	const struct tar_xattr *xattrs;
	size_t n_xattrs; /* TAR_XATTRS_MAX at most */
};

/** tar_put_entry() - append the head of an entry; tar_padding() bytes follow its data. Return: 0;
 * -errno of buf_append() */
must_check int tar_put_entry(struct buf *out, const struct tar_entry *entry);

/** tar_padding() - how many zero bytes go behind the data of an entry */
static inline size_t tar_padding(uint64_t size_bytes)
{
	return (size_t)(-size_bytes % TAR_BLOCK_BYTES);
}

/** tar_put_end() - append the end of a stream. Return: 0; -errno of buf_append() */
must_check int tar_put_end(struct buf *out);

struct tar_reader;

enum tar_event {
	TAR_MORE,  /* all bytes were taken, none of these came up */
	TAR_ENTRY, /* tar_reader_entry() is the next one */
	TAR_DATA,  /* a piece of a file */
	TAR_DONE,  /* the entry is complete */
};

/** tar_reader_new() - read a stream from its beginning; tar_reader_free() ends it */
struct tar_reader *tar_reader_new(void);

/** tar_reader_free() - free; NULL is allowed */
void tar_reader_free(struct tar_reader *r);

/**
 * tar_next() - take bytes of a stream, in any pieces, up to the next event
 * @p, @n:	moved behind what was taken
 * @out_data, @out_len:	of TAR_DATA; borrowed from the input
 *
 * Behind the end of the stream all is taken and nothing comes of it.
 * Return: an event; -EPROTO with @e set: it is no tar stream, or one of a kind that is not read.
 */
must_check int tar_next(struct tar_reader *r, const char **p, size_t *n, const char **out_data,
			size_t *out_len, struct err *e);

/** tar_reader_entry() - the last entry; borrowed until tar_next() is called behind TAR_DONE */
const struct tar_entry *tar_reader_entry(const struct tar_reader *r);

/** tar_reader_is_complete() - whether the stream may end here: behind its end, or, since some
 * programs write none, behind an entry */
bool tar_reader_is_complete(const struct tar_reader *r);
