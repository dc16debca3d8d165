/* SPDX-License-Identifier: Apache-2.0 */
#include "template/publish.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/sha256.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DIGEST_CHARS = 16, CHUNK_BYTES = 1 << 20 };

/* Snapshots lie beside the templates, as <name>:<tag>. Return: 1 one has this name; 0; -errno. */
static int is_snapshot(int dirfd, const char *name)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	size_t n = strlen(name);
	int r = dir_open_at(dirfd, "../snapshots", 0, &d);

	if (r == -ENOENT)
		return 0;
	while (r >= 0 && (r = dir_next(d, &entry)) > 0) {
		if (strncmp(entry->d_name, name, n) == 0 && entry->d_name[n] == ':')
			return 1;
	}
	return r;
}

int template_check_name(int dirfd, const char *name, struct err *e)
{
	int r = name_check("template", name, e);

	if (r < 0)
		return r;
	r = is_snapshot(dirfd, name);
	if (r < 0)
		return err_errno(e, -r, "look for snapshots");
	return r == 0 ? 0
		      : err_set(e, ERR_CONFLICT, "a snapshot has the name %s; choose another",
				name);
}

static int digest(int fd, char out_sha256[SHA256_HEX_SIZE], const struct op *op)
{
	auto_free char *chunk = xcalloc(1, CHUNK_BYTES);
	struct sha256 sha;
	ssize_t n;

	sha256_init(&sha);
	while ((n = fd_read_full(fd, chunk, CHUNK_BYTES)) > 0) {
		int r = op_check(op);

		if (r < 0)
			return r;
		sha256_add(&sha, chunk, (size_t)n);
	}
	sha256_hex(&sha, out_sha256);
	return (int)n;
}

int template_seal(const char *path, uint64_t *out_bytes, char out_sha256[65], struct op *op)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(&op->err, errno, "open %s", path);
	r = digest(fd, out_sha256, op);
	if (r < 0)
		return err_errno(&op->err, -r, "compute the digest of %s", path);
	if (fchmod(fd, 0444) < 0 || fsync(fd) < 0)
		return err_errno(&op->err, errno, "write %s", path);
	*out_bytes = (uint64_t)st.st_size;
	return 0;
}

/* Has the name lead to a version. */
static int replace_link(int dirfd, const char *stage, const char *name, const char *version)
{
	auto_free char *link = str_printf("%s/link", stage);
	int r = file_sync_dir(dirfd);

	if (r == 0 && symlinkat(version, dirfd, link) < 0)
		r = -errno;
	if (r == 0 && renameat(dirfd, link, dirfd, name) < 0)
		r = -errno;
	return r < 0 ? r : file_sync_dir(dirfd);
}

int template_publish(int dirfd, const char *stage, const struct template *t, struct op *op)
{
	auto_free char *version = str_printf("%s@%.*s", t->name, DIGEST_CHARS, t->sha256);
	auto_free char *out = str_printf("%s/out", stage);
	int r = op_check(op);

	if (r < 0)
		return err_errno(&op->err, -r, "build template %s", t->name);
	r = template_check_name(dirfd, t->name, &op->err);
	if (r < 0)
		return r;
	if (renameat(dirfd, out, dirfd, version) < 0 && errno != ENOTEMPTY &&
	    errno != EEXIST) /* the very same one is there */
		return err_errno(&op->err, errno, "name the template's directory %s", version);
	r = replace_link(dirfd, stage, t->name, version);
	return r < 0 ? err_errno(&op->err, -r, "make template %s a link to %s", t->name, version)
		     : 0;
}
