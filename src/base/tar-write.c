/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "base/tar-internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

enum { OCTAL_7_MAX = 07777777, RECORD_EXTRA_BYTES = 32 };

static const uint64_t OCTAL_11_MAX = 077777777777;

/* Numbers that do not fit are in the extension; here they are 0. */
static void put_octal(char *field, size_t size, uint64_t value, uint64_t max)
{
	char text[24];

	snprintf(text, sizeof(text), "%0*" PRIo64, (int)size - 1, value <= max ? value : 0);
	memcpy(field, text, size);
}

/* A name as long as the field has no NUL behind it. */
static void put_name(char *field, size_t size, const char *name)
{
	memccpy(field, name, '\0', size);
}

static int put_block(struct buf *out, struct tar_head *h)
{
	const unsigned char *bytes = (const unsigned char *)h;
	unsigned sum = 0;

	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < sizeof(*h); i++)
		sum += bytes[i];
	snprintf(h->checksum, sizeof(h->checksum), "%06o", sum);
	return buf_append(out, h, sizeof(*h));
}

/* One record, "<length> <key>=<value>\n", whose length counts its own digits. */
static int put_record(struct buf *out, const char *key, const char *value)
{
	size_t body = strlen(key) + strlen(value) + 3;
	size_t len = body + 1;

	while (body + (size_t)snprintf(NULL, 0, "%zu", len) != len)
		len++;
	return buf_printf(out, "%zu %s=%s\n", len, key, value);
}

static int put_number(struct buf *out, const char *key, uint64_t value, uint64_t max)
{
	char text[24];

	if (value <= max)
		return 0;
	snprintf(text, sizeof(text), "%" PRIu64, value);
	return put_record(out, key, text);
}

/* Before the epoch the fraction still counts forward: 1.5 s before it is -1.5. */
static int put_time(struct buf *out, const struct tar_entry *entry)
{
	int64_t s = entry->mtime_s;
	uint32_t ns = entry->mtime_ns;
	bool negative = s < 0;
	char text[48];

	if (ns == 0 && !negative && (uint64_t)s <= OCTAL_11_MAX)
		return 0;
	if (negative && ns > 0) {
		s++;
		ns = TAR_NS_PER_S - ns;
	}
	snprintf(text, sizeof(text), "%s%" PRIu64 ".%09" PRIu32, negative ? "-" : "",
		 negative ? -(uint64_t)s : (uint64_t)s, ns);
	return put_record(out, "mtime", text);
}

static int put_extension(struct buf *out, const struct tar_entry *entry)
{
	int r = 0;

	if (strlen(entry->path) > TAR_NAME_BYTES)
		r = put_record(out, "path", entry->path);
	if (r == 0 && strlen(entry->link) > TAR_NAME_BYTES)
		r = put_record(out, "linkpath", entry->link);
	if (r == 0)
		r = put_number(out, "size", entry->size_bytes, OCTAL_11_MAX);
	if (r == 0)
		r = put_number(out, "uid", entry->uid, OCTAL_7_MAX);
	if (r == 0)
		r = put_number(out, "gid", entry->gid, OCTAL_7_MAX);
	return r < 0 ? r : put_time(out, entry);
}

static int put_zeros(struct buf *out, size_t n)
{
	static const char zeros[TAR_BLOCK_BYTES];

	return buf_append(out, zeros, n);
}

/* The extension is an entry of its own ahead of what it extends. */
static int put_extension_entry(struct buf *out, const struct buf *extension)
{
	struct tar_head h = { .type = TAR_PAX };
	int r;

	put_name(h.name, sizeof(h.name), "././@PaxHeader");
	put_octal(h.mode, sizeof(h.mode), 0644, OCTAL_7_MAX);
	put_octal(h.uid, sizeof(h.uid), 0, OCTAL_7_MAX);
	put_octal(h.gid, sizeof(h.gid), 0, OCTAL_7_MAX);
	put_octal(h.size, sizeof(h.size), extension->len, OCTAL_11_MAX);
	put_octal(h.mtime, sizeof(h.mtime), 0, OCTAL_11_MAX);
	r = put_block(out, &h);
	if (r == 0)
		r = buf_append(out, buf_head(extension), extension->len);
	return r < 0 ? r : put_zeros(out, tar_padding(extension->len));
}

int tar_put_entry(struct buf *out, const struct tar_entry *entry)
{
	auto_buf extension = BUF_INIT(TAR_EXTENSION_MAX_BYTES);
	struct tar_head h = { .type = (char)entry->type };
	bool old = entry->mtime_s < 0;
	int r = put_extension(&extension, entry);

	if (r == 0 && extension.len > 0)
		r = put_extension_entry(out, &extension);
	if (r < 0)
		return r;
	put_name(h.name, sizeof(h.name), entry->path);
	put_name(h.link, sizeof(h.link), entry->link);
	put_octal(h.mode, sizeof(h.mode), entry->mode, OCTAL_7_MAX);
	put_octal(h.uid, sizeof(h.uid), entry->uid, OCTAL_7_MAX);
	put_octal(h.gid, sizeof(h.gid), entry->gid, OCTAL_7_MAX);
	put_octal(h.size, sizeof(h.size), entry->size_bytes, OCTAL_11_MAX);
	put_octal(h.mtime, sizeof(h.mtime), old ? 0 : (uint64_t)entry->mtime_s, OCTAL_11_MAX);
	return put_block(out, &h);
}

int tar_put_end(struct buf *out)
{
	int r = put_zeros(out, TAR_BLOCK_BYTES);

	return r < 0 ? r : put_zeros(out, TAR_BLOCK_BYTES);
}
