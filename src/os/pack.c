/* SPDX-License-Identifier: Apache-2.0 */
#include "os/pack.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/str.h"
#include "base/tar.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

enum {
	DEPTH_MAX = 256, /* directories are open all the way down */
	NAME_MAX_BYTES = 32 << 10,
	HEAD_MAX_BYTES = 3 * TAR_EXTENSION_MAX_BYTES,
	KERNEL_FILE_MAX_BYTES = 64 << 10,
};

struct level {
	DIR *dir;
	size_t n_name; /* of its name in p->name, with the slash */
};

struct pack {
	struct pack_spec spec;
	struct buf name; /* of the entry under way */
	struct level levels[DEPTH_MAX];
	size_t depth;
	struct buf head; /* bytes to go out before anything else */
	int fd;          /* the file under way; -1 = none */
	uint64_t left;   /* of it */
	size_t padding;  /* behind it */
	bool ended;
};

void pack_free(struct pack *p)
{
	if (p == NULL)
		return;
	while (p->depth > 0)
		dir_close(&p->levels[--p->depth].dir);
	fd_close(&p->fd);
	buf_done(&p->name);
	buf_done(&p->head);
	free(p);
}

static int fail(const struct pack *p, int code, const char *what, struct err *e)
{
	return err_errno(e, code, "%s %.300s", what, buf_str((struct buf *)(uintptr_t)&p->name));
}

static int put_entry(struct pack *p, const struct stat *st, enum tar_type type, const char *link)
{
	return tar_put_entry(&p->head,
			     &(struct tar_entry){
				     .path = buf_str(&p->name),
				     .link = link,
				     .type = type,
				     .mode = st->st_mode & 07777,
				     .uid = st->st_uid,
				     .gid = st->st_gid,
				     .size_bytes = type == TAR_FILE ? (uint64_t)st->st_size : 0,
				     .mtime_s = st->st_mtim.tv_sec,
				     .mtime_ns = (uint32_t)st->st_mtim.tv_nsec,
			     });
}

/* Files of the kernel say that they are empty; what they have is read at once, for its length.
 * Return: 0; -errno. */
static int put_kernel_file(struct pack *p, int fd, struct stat *st)
{
	auto_free char *text = malloc(KERNEL_FILE_MAX_BYTES);
	size_t n = 0;
	ssize_t got;
	int r;

	if (text == NULL)
		return -ENOMEM;
	do {
		got = read(fd, text + n, KERNEL_FILE_MAX_BYTES - n);
		n += (size_t)MAX(got, 0);
	} while (got > 0 && n < KERNEL_FILE_MAX_BYTES);
	if (got < 0)
		return -errno;
	if (n == KERNEL_FILE_MAX_BYTES)
		return -EFBIG;
	st->st_size = (off_t)n;
	r = put_entry(p, st, TAR_FILE, "");
	if (r == 0)
		r = buf_append(&p->head, text, n);
	p->padding = tar_padding(n);
	return r;
}

static int pack_file(struct pack *p, int dirfd, const char *name, int nofollow, struct err *e)
{
	auto_close int fd =
		openat(dirfd, name, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | nofollow);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(p, errno, "open", e);
	if (!S_ISREG(st.st_mode))
		return fail(p, EAGAIN, "open what was a file and is none any more,", e);
	if (st.st_size == 0) {
		r = put_kernel_file(p, fd, &st);
		return r < 0 ? fail(p, -r, "read", e) : 0;
	}
	r = put_entry(p, &st, TAR_FILE, "");
	if (r < 0)
		return fail(p, -r, "name", e);
	p->left = (uint64_t)st.st_size;
	p->padding = tar_padding(p->left);
	p->fd = take_fd(&fd);
	return 0;
}

/* What the kernel makes up has no end, or costs a device something to read. */
static bool is_made_up(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 && (fs.f_type == PROC_SUPER_MAGIC || fs.f_type == SYSFS_MAGIC);
}

static int push_level(struct pack *p, int *fd, struct err *e)
{
	DIR *dir;

	if (p->depth == DEPTH_MAX)
		return err_set(e, ERR_INVALID, "more than %d directories deep: %.200s", DEPTH_MAX,
			       buf_str(&p->name));
	dir = fdopendir(*fd);
	if (dir == NULL)
		return fail(p, errno, "open", e);
	take_fd(fd);
	p->levels[p->depth++] = (struct level){ .dir = dir, .n_name = p->name.len };
	return 0;
}

static int pack_dir(struct pack *p, int dirfd, const char *name, int nofollow, struct err *e)
{
	auto_close int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | nofollow);
	struct stat st;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return fail(p, errno, "open", e);
	r = buf_puts(&p->name, "/");
	if (r == 0)
		r = put_entry(p, &st, TAR_DIR, "");
	if (r < 0)
		return fail(p, -r, "name", e);
	return p->depth > 0 && is_made_up(fd) ? 0 : push_level(p, &fd, e);
}

static int pack_link(struct pack *p, int dirfd, const char *name, const struct stat *st,
		     struct err *e)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(dirfd, name, target, sizeof(target) - 1);
	int r;

	if (n < 0)
		return fail(p, errno, "read the link", e);
	target[n] = '\0';
	r = put_entry(p, st, TAR_SYMLINK, target);
	return r < 0 ? fail(p, -r, "name", e) : 0;
}

static int pack_special(struct pack *p, const struct stat *st, struct err *e)
{
	enum tar_type type = S_ISFIFO(st->st_mode)  ? TAR_FIFO
			     : S_ISCHR(st->st_mode) ? TAR_CHARDEV
						    : TAR_BLOCKDEV;
	int r;

	if (S_ISSOCK(st->st_mode)) {
		if (p->spec.on_skip != NULL)
			p->spec.on_skip(buf_str(&p->name), p->spec.arg);
		return 0;
	}
	r = put_entry(p, st, type, "");
	return r < 0 ? fail(p, -r, "name", e) : 0;
}

/* Begins the entry whose name is in p->name. */
static int pack_entry(struct pack *p, int dirfd, const char *name, bool follow, struct err *e)
{
	int nofollow = follow ? 0 : O_NOFOLLOW;
	struct stat st;

	if (fstatat(dirfd, name, &st, follow ? 0 : AT_SYMLINK_NOFOLLOW) < 0)
		return fail(p, errno, "look at", e);
	if (S_ISREG(st.st_mode))
		return pack_file(p, dirfd, name, nofollow, e);
	if (S_ISDIR(st.st_mode))
		return pack_dir(p, dirfd, name, nofollow, e);
	if (S_ISLNK(st.st_mode))
		return pack_link(p, dirfd, name, &st, e);
	return pack_special(p, &st, e);
}

int pack_open(const char *path, const struct pack_spec *spec, struct pack **out, struct err *e)
{
	struct pack *p = xcalloc(1, sizeof(*p));
	int r;

	p->spec = *spec;
	p->spec.name = NULL;
	p->fd = -1;
	buf_init(&p->name, NAME_MAX_BYTES);
	buf_init(&p->head, HEAD_MAX_BYTES);
	r = buf_puts(&p->name, spec->name);
	if (r < 0)
		r = err_errno(e, -r, "name %s", path);
	else
		r = pack_entry(p, AT_FDCWD, path, spec->follow_root || spec->follow_all, e);
	if (r < 0) {
		pack_free(p);
		return r;
	}
	*out = p;
	return 0;
}

/* The next entry of the directory under way, or its end. */
static int next_entry(struct pack *p, struct err *e)
{
	struct level *level = &p->levels[p->depth - 1];
	const struct dirent *d;
	int r = dir_next(level->dir, &d);

	p->name.len = level->n_name;
	if (r < 0)
		return fail(p, -r, "list", e);
	if (r == 0) {
		dir_close(&level->dir);
		p->depth--;
		return 0;
	}
	r = buf_puts(&p->name, d->d_name);
	if (r < 0)
		return fail(p, -r, "name what is in", e);
	r = pack_entry(p, dirfd(level->dir), d->d_name, p->spec.follow_all, e);
	if (r == -ENOENT && !p->spec.follow_all) {
		*e = (struct err){ 0 }; /* it went away meanwhile */
		r = 0;
	}
	return r;
}

static int put_zeros(struct pack *p, size_t n)
{
	static const char zeros[TAR_BLOCK_BYTES];

	return buf_append(&p->head, zeros, n);
}

/* Puts something into p->head, or opens a file, or ends. */
static int advance(struct pack *p, struct err *e)
{
	int r;

	if (p->padding > 0 && p->fd < 0) {
		r = put_zeros(p, p->padding);
		p->padding = 0;
		return r < 0 ? err_errno(e, -r, "pack") : 0;
	}
	if (p->depth > 0)
		return next_entry(p, e);
	p->ended = true;
	r = tar_put_end(&p->head);
	return r < 0 ? err_errno(e, -r, "pack") : 0;
}

static ssize_t take_head(struct pack *p, char *out, size_t n)
{
	size_t len = MIN(n, p->head.len);

	memcpy(out, buf_head(&p->head), len);
	buf_consume(&p->head, len);
	return (ssize_t)len;
}

/* Its size was told: a file that became shorter makes a stream that is not whole. */
static ssize_t read_file(struct pack *p, char *out, size_t n, struct err *e)
{
	ssize_t got = read(p->fd, out, (size_t)MIN((uint64_t)n, p->left));

	if (got < 0)
		return fail(p, errno, "read", e);
	if (got == 0)
		return err_set(e, ERR_CONFLICT, "%s became shorter while it was read",
			       buf_str(&p->name));
	p->left -= (uint64_t)got;
	if (p->left == 0)
		fd_close(&p->fd);
	return got;
}

ssize_t pack_read(struct pack *p, char *out, size_t n, struct err *e)
{
	for (;;) {
		int r;

		if (p->head.len > 0)
			return take_head(p, out, n);
		if (p->fd >= 0)
			return read_file(p, out, n, e);
		if (p->ended)
			return 0;
		r = advance(p, e);
		if (r < 0)
			return r;
	}
}
