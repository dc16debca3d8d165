/* SPDX-License-Identifier: Apache-2.0 */
#include "build/import-source.h"

#include "base/buf.h"
#include "base/fd.h"
#include "base/sha256.h"
#include "base/str.h"
#include "build/layer-path.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

enum { INDEX_DEPTH_MAX = 3 };

void import_source_done(struct import_source *s)
{
	oci_manifest_done(&s->manifest);
	oci_config_done(&s->config);
	fd_close(&s->dir_fd);
}

/* A machine's name as Go and images have it. */
static const char *go_arch(const struct utsname *host)
{
	static const char *const names[][2] = { { "x86_64", "amd64" }, { "aarch64", "arm64" } };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (streq(host->machine, names[i][0]))
			return names[i][1];
	return host->machine;
}

static bool has_file(int dir_fd, const char *path)
{
	uint64_t bytes;
	auto_close int fd = layer_open_file(dir_fd, path, &bytes);

	return fd >= 0;
}

static bool has_dir(int dir_fd, const char *path)
{
	auto_close int fd = layer_open_dir(dir_fd, path, O_PATH);

	return fd >= 0;
}

bool import_source_is_image(int dir_fd)
{
	bool root = has_dir(dir_fd, "usr") || has_dir(dir_fd, "etc") || has_dir(dir_fd, "bin");

	return !root && (has_file(dir_fd, "manifest.json") ||
			 (has_file(dir_fd, "oci-layout") && has_file(dir_fd, "index.json")));
}

int import_source_open(const struct import_source *s, const struct oci_part *part, struct err *e)
{
	uint64_t bytes;
	auto_close int fd = layer_open_file(s->dir_fd, part->path, &bytes);

	if (fd == -EINVAL)
		return err_set(e, ERR_INVALID, "the image's %.200s is no regular file", part->path);
	if (fd == -ENOENT)
		return err_set(e, ERR_INVALID, "the image's %.200s is missing", part->path);
	if (fd < 0)
		return err_errno(e, -fd, "open the image's %.200s", part->path);
	if (part->bytes != OCI_BYTES_ANY && part->bytes != bytes)
		return err_set(
			e, ERR_INVALID,
			"the image's %.200s has %llu bytes instead of the %llu that are said",
			part->path, (unsigned long long)bytes, (unsigned long long)part->bytes);
	return take_fd(&fd);
}

static int read_all(int fd, const char *path, struct buf *out, struct err *e)
{
	char piece[4096];
	ssize_t n;

	while ((n = fd_read_full(fd, piece, sizeof(piece))) > 0) {
		if (buf_append(out, piece, (size_t)n) < 0)
			return err_set(e, ERR_INVALID, "the image's %.200s is longer than %d bytes",
				       path, OCI_DOCUMENT_MAX);
	}
	return n < 0 ? err_errno(e, (int)-n, "read the image's %.200s", path) : 0;
}

/* A whole document, checked against its digest. */
static int read_part(const struct import_source *s, const struct oci_part *part, struct buf *out,
		     struct err *e)
{
	auto_close int fd = import_source_open(s, part, e);
	char hex[SHA256_HEX_SIZE];
	struct sha256 sha;
	int r = fd < 0 ? fd : read_all(fd, part->path, out, e);

	if (r < 0)
		return r;
	sha256_init(&sha);
	sha256_add(&sha, buf_str(out), out->len);
	sha256_hex(&sha, hex);
	if (part->sha256[0] != '\0' && !streq(hex, part->sha256))
		return err_set(e, ERR_INVALID, "the image's %.200s is corrupt: its digest is %s",
			       part->path, hex);
	return 0;
}

static int read_named(const struct import_source *s, const char *name, struct buf *out,
		      struct err *e)
{
	auto_free char *path = str_dup(name);
	struct oci_part part = { .path = path, .bytes = OCI_BYTES_ANY };

	return read_part(s, &part, out, e);
}

/* From index.json, by way of indexes of indexes, to a manifest. */
static int read_layout(struct import_source *s, const char *arch, struct err *e)
{
	auto_buf text = BUF_INIT(OCI_DOCUMENT_MAX);
	cleanup(oci_part_done) struct oci_part part = { .path = NULL };
	int r = read_named(s, "index.json", &text, e);

	for (int depth = 0; r >= 0; depth++) {
		struct oci_part next = { .path = NULL };

		if (depth == INDEX_DEPTH_MAX)
			return err_set(e, ERR_INVALID, "the image's indexes do not end");
		r = oci_index_parse(buf_str(&text), text.len, arch, &next, e);
		if (r < 0)
			return r;
		oci_part_done(&part);
		part = next;
		buf_clear(&text);
		if (read_part(s, &part, &text, e) < 0)
			return -EINVAL;
		if (r == 0)
			return oci_manifest_parse(buf_str(&text), text.len, &s->manifest, e);
	}
	return r;
}

static int read_saved(struct import_source *s, struct err *e)
{
	auto_buf text = BUF_INIT(OCI_DOCUMENT_MAX);
	int r = read_named(s, "manifest.json", &text, e);

	return r < 0 ? r : oci_saved_parse(buf_str(&text), text.len, &s->manifest, e);
}

int import_source_read(struct import_source *s, struct err *e)
{
	auto_buf text = BUF_INIT(OCI_DOCUMENT_MAX);
	struct utsname host;
	int r;

	if (uname(&host) < 0)
		return err_errno(e, errno, "ask for the host's architecture");
	/* The layout says more of what belongs there: newer `docker save` writes both. */
	r = has_file(s->dir_fd, "index.json") ? read_layout(s, go_arch(&host), e)
					      : read_saved(s, e);
	if (r == 0)
		r = read_part(s, &s->manifest.config, &text, e);
	if (r == 0)
		r = oci_config_parse(buf_str(&text), text.len, go_arch(&host), &s->config, e);
	if (r == 0 && s->config.diff_ids.n != s->manifest.layers.n)
		r = err_set(e, ERR_INVALID,
			    "the image has %zu layers, and its configuration tells of %zu",
			    s->manifest.layers.n, s->config.diff_ids.n);
	return r;
}
