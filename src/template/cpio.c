/* SPDX-License-Identifier: Apache-2.0 */
#include "template/cpio.h"

#include "base/buf.h"
#include "base/fd.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

/* Numbers of a head, eight hexadecimal digits each. */
enum head_field {
	HEAD_INODE,
	HEAD_MODE,
	HEAD_UID,
	HEAD_GID,
	HEAD_LINKS,
	HEAD_TIME,
	HEAD_BYTES,
	HEAD_ARCHIVE_MAJOR,
	HEAD_ARCHIVE_MINOR,
	HEAD_DEVICE_MAJOR,
	HEAD_DEVICE_MINOR,
	HEAD_NAME_BYTES,
	HEAD_SUM,
	HEAD_FIELD_N,
};

enum { ALIGN_BYTES = 4, HEAD_MAX = 110 + PATH_MAX + ALIGN_BYTES };

static const char zeros[ALIGN_BYTES];

/* Head and name; what follows begins at a multiple of four bytes. */
static int write_head(struct cpio *cpio, const struct cpio_entry *entry)
{
	const size_t name_bytes = strlen(entry->path) + 1;
	const unsigned fields[HEAD_FIELD_N] = {
		[HEAD_INODE] = ++cpio->entries,
		[HEAD_MODE] = entry->mode,
		[HEAD_LINKS] = 1,
		[HEAD_BYTES] = (unsigned)entry->n,
		[HEAD_DEVICE_MAJOR] = entry->device_major,
		[HEAD_DEVICE_MINOR] = entry->device_minor,
		[HEAD_NAME_BYTES] = (unsigned)name_bytes,
	};
	auto_buf head = BUF_INIT(HEAD_MAX);
	int r = buf_puts(&head, "070701");

	for (size_t i = 0; r == 0 && i < HEAD_FIELD_N; i++)
		r = buf_printf(&head, "%08x", fields[i]);
	if (r == 0)
		r = buf_append(&head, entry->path, name_bytes);
	if (r == 0)
		r = buf_append(&head, zeros, -head.len % ALIGN_BYTES);
	return r < 0 ? r : fd_write_all(cpio->fd, buf_str(&head), head.len);
}

int cpio_add(struct cpio *cpio, const struct cpio_entry *entry)
{
	int r;

	if (entry->n > UINT32_MAX)
		return -EFBIG;
	r = write_head(cpio, entry);
	if (r == 0 && entry->n > 0)
		r = fd_write_all(cpio->fd, entry->data, entry->n);
	return r < 0 ? r : fd_write_all(cpio->fd, zeros, -entry->n % ALIGN_BYTES);
}

int cpio_end(struct cpio *cpio)
{
	return cpio_add(cpio, &(struct cpio_entry){ .path = "TRAILER!!!" });
}
