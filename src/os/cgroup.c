/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * Removal: cgroup.kill (Linux 5.14) sends SIGKILL to the whole subtree, forks under way included;
 * the kernel then reports "populated 0" in cgroup.events, which poll(2) announces by POLLPRI; only
 * then do the directories go, innermost first. A directory that stays busy for another reason (a
 * child that was just made) is tried again at each event, until the op ends.
 */
#include "os/cgroup.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <mntent.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

enum { CGROUP_FILE_BYTES = 4096, CGROUP_DEPTH_MAX = 32, CGROUP_RETRY_MS = 10 };

static const char usual_mount[] = "/sys/fs/cgroup";

static void close_mounts(FILE **f)
{
	if (*f != NULL)
		endmntent(*f);
}

int cgroup_find_mount(char *out, size_t size)
{
	cleanup(close_mounts) FILE *f = setmntent("/proc/self/mounts", "re");
	char strings[8192];
	struct mntent m;
	int r = -ENOENT;

	if (f == NULL)
		return -errno;
	while (getmntent_r(f, &m, strings, sizeof(strings)) != NULL) {
		if (!streq(m.mnt_type, "cgroup2") || hasmntopt(&m, MNTOPT_RO) != NULL)
			continue;
		if (r == 0 && !streq(m.mnt_dir, usual_mount))
			continue;
		r = str_fit(out, size, "%s", m.mnt_dir);
	}
	return r;
}

static int mount_own(const char *mount_dir)
{
	int r = file_mkdirs(mount_dir);

	if (r < 0)
		return r;
	if (mount("cgroup2", mount_dir, "cgroup2", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
		return -errno;
	return 0;
}

static int open_dir_at(int dirfd, const char *name)
{
	int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* The kernel counts for each child what becomes of it, if it can; nothing else depends on that. */
static void count_memory(int root_fd)
{
	ignore_err(file_write_at(root_fd, "cgroup.subtree_control", "+memory"));
}

int cgroup_open_root(const char *name, const char *mount_dir, int *out_fd, struct err *e)
{
	char dir[PATH_MAX];
	auto_close int mount_fd = -1;
	int r = cgroup_find_mount(dir, sizeof(dir));

	if (r == -ENOENT) {
		r = mount_own(mount_dir);
		if (r < 0)
			return err_errno(e, -r, "mount a cgroup v2 hierarchy at %s", mount_dir);
		r = str_fit(dir, sizeof(dir), "%s", mount_dir);
	}
	if (r < 0)
		return err_errno(e, -r, "look for a cgroup v2 mount");
	mount_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (mount_fd < 0)
		return err_errno(e, errno, "open %s", dir);
	if (mkdirat(mount_fd, name, 0755) < 0 && errno != EEXIST)
		return err_errno(e, errno, "make cgroup %s/%s", dir, name);
	r = open_dir_at(mount_fd, name);
	if (r < 0)
		return err_errno(e, -r, "open cgroup %s/%s", dir, name);
	count_memory(r);
	*out_fd = r;
	return 0;
}

int cgroup_open_existing(const char *name)
{
	char dir[PATH_MAX];
	auto_close int mount_fd = -1;
	int r = cgroup_find_mount(dir, sizeof(dir));

	if (r < 0)
		return r;
	mount_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return mount_fd < 0 ? -errno : open_dir_at(mount_fd, name);
}

int cgroup_create(int root_fd, const char *name, struct op *op)
{
	int r;

	if (mkdirat(root_fd, name, 0755) < 0) {
		if (errno != EEXIST)
			return err_errno(&op->err, errno, "make cgroup %s", name);
		r = cgroup_remove(root_fd, name, op);
		if (r < 0)
			return r;
		if (mkdirat(root_fd, name, 0755) < 0)
			return err_errno(&op->err, errno, "make cgroup %s", name);
	}
	r = open_dir_at(root_fd, name);
	if (r < 0)
		return err_errno(&op->err, -r, "open cgroup %s", name);
	return r;
}

/* Return: 1 processes are in it or below; 0 none; -errno. */
static int read_populated(int events_fd)
{
	char text[CGROUP_FILE_BYTES];
	ssize_t n = pread(events_fd, text, sizeof(text) - 1, 0);
	uint64_t populated;

	if (n < 0)
		return -errno;
	text[n] = '\0';
	return parse_keyed(text, "populated", &populated) < 0 || populated != 0;
}

static int wait_empty(int events_fd, const struct op *op)
{
	for (;;) {
		int r = read_populated(events_fd);

		if (r <= 0)
			return r == -ENODEV ? 0 : r;
		r = op_wait_fd(op, events_fd, POLLPRI, -1);
		if (r < 0)
			return r;
	}
}

static int remove_subtree(int parent_fd, const char *name, unsigned depth);

static int remove_subdirs(int fd, unsigned depth)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	int r = dir_open_at(fd, ".", 0, &d);

	while (r >= 0 && (r = dir_next(d, &entry)) > 0)
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			r = remove_subtree(fd, entry->d_name, depth + 1);
	return r;
}

static int remove_subtree(int parent_fd, const char *name, unsigned depth)
{
	auto_close int fd = open_dir_at(parent_fd, name);
	int r;

	if (fd < 0)
		return fd == -ENOENT ? 0 : fd;
	if (depth > CGROUP_DEPTH_MAX)
		return -ELOOP;
	r = remove_subdirs(fd, depth);
	if (r < 0)
		return r;
	if (unlinkat(parent_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return -errno;
	return 0;
}

/* Empties and removes a cgroup, once. Return: 0; -EBUSY something came in meanwhile; -errno. */
static int remove_once(int root_fd, const char *name, int fd, int events_fd, const struct op *op)
{
	int r = file_write_at(fd, "cgroup.kill", "1");

	if (r == 0)
		r = wait_empty(events_fd, op);
	return r < 0 ? r : remove_subtree(root_fd, name, 0);
}

int cgroup_remove(int root_fd, const char *name, struct op *op)
{
	auto_close int fd = open_dir_at(root_fd, name);
	auto_close int events_fd = -1;
	int r;

	if (fd == -ENOENT)
		return 0;
	if (fd < 0)
		return err_errno(&op->err, -fd, "open cgroup %s", name);
	events_fd = openat(fd, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (events_fd < 0)
		return err_errno(&op->err, errno, "open cgroup.events of %s", name);
	for (;;) {
		struct op pause;

		r = remove_once(root_fd, name, fd, events_fd, op);
		if (r == -ENODEV)
			return 0; /* somebody else removed it */
		if (r != -EBUSY)
			break;
		pause = op_child(op, CGROUP_RETRY_MS);
		ignore_err(op_wait_fd(&pause, events_fd, POLLPRI, -1)); /* then it is tried again */
		r = op_check(op);
		if (r < 0)
			break;
	}
	return r < 0 ? err_errno(&op->err, -r, "kill and remove cgroup %s", name) : 0;
}

int cgroup_first_pid(int root_fd, const char *name)
{
	auto_buf procs = BUF_INIT(1 << 20);
	auto_close int fd = open_dir_at(root_fd, name);
	uint64_t pid;
	char *end;
	int r;

	if (fd < 0)
		return fd;
	r = file_read_at(fd, "cgroup.procs", &procs);
	if (r == -ENODEV)
		return -ENOENT;
	if (r < 0 || procs.len == 0)
		return r;
	end = memchr(buf_head(&procs), '\n', procs.len);
	if (end == NULL)
		return -EBADMSG;
	*end = '\0';
	r = parse_u64(buf_head(&procs), 1, INT_MAX, &pid);
	return r < 0 ? r : (int)pid;
}

int cgroup_oom_kills(int fd, uint64_t *out)
{
	auto_buf text = BUF_INIT(CGROUP_FILE_BYTES);
	int r = file_read_at(fd, "memory.events", &text);

	return r < 0 ? r : parse_keyed(buf_str(&text), "oom_kill", out);
}

int cgroup_list(int root_fd, int (*fn)(const char *name, void *arg), void *arg)
{
	auto_dir *d = NULL;
	const struct dirent *entry;
	int r = dir_open_at(root_fd, ".", 0, &d);

	while (r >= 0 && (r = dir_next(d, &entry)) > 0)
		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			r = fn(entry->d_name, arg);
	return r < 0 ? r : 0;
}

int cgroup_close_root(int root_fd, struct op *op)
{
	char link[32];
	char path[PATH_MAX];
	auto_close int parent = open_dir_at(root_fd, "..");
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", root_fd);
	n = readlink(link, path, sizeof(path) - 1);
	if (n < 0 || parent < 0)
		return err_errno(&op->err, n < 0 ? errno : -parent, "find the instance's cgroup");
	path[n] = '\0';
	if (unlinkat(parent, basename(path), AT_REMOVEDIR) == 0)
		return 0;
	if (errno == EBUSY || errno == ENOTEMPTY || errno == ENOENT)
		return 0; /* children are left, or it is gone */
	return err_errno(&op->err, errno, "remove cgroup %s", path);
}

int cgroup_unmount(const char *name, const char *mount_dir)
{
	auto_close int fd = open(mount_dir, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct statfs fs;

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	if (fstatfs(fd, &fs) < 0)
		return -errno;
	if (fs.f_type != CGROUP2_SUPER_MAGIC)
		return rmdir(mount_dir) < 0 && errno != ENOTEMPTY ? -errno : 0;
	if (faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 0; /* something of it lives */
	fd_close(&fd);
	if (umount2(mount_dir, UMOUNT_NOFOLLOW) < 0)
		return errno == EBUSY ? 0 : -errno; /* another daemon has it open */
	return rmdir(mount_dir) < 0 ? -errno : 0;
}
