/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * The kernel starts us from an initramfs that holds this program and the modules of its virtio
 * devices: any root file system runs unchanged, whether it has an init or not. The order of the
 * phases:
 *
 *	kernel file systems on /proc, /sys and /dev   command line, devices and modules need them
 *	modules                                       virtio bus and drivers; devices appear while
 * they load disk                                          mount on /newroot, grow, become the root
 *	rest                                          mounts of a running system, network, files,
 * limits
 *
 * Nothing is written into the root file system but what is missing and without which programs fail:
 * mount points, /etc/resolv.conf, /etc/hosts. It goes into the sandbox's own layer.
 */
#include "agent/boot.h"

#include "agent/boot-internal.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/parse.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CMDLINE_MAX = 4096, NOFILE_SOFT = 65536, NOFILE_HARD = 1048576 };

struct boot_mount {
	const char *type;
	const char *target;
	unsigned long flags;
	const char *options;
};

static const struct boot_mount early_mounts[] = {
	{ "proc", "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
	{ "sysfs", "/sys", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL },
	{ "devtmpfs", "/dev", MS_NOSUID | MS_NOEXEC, "mode=755" },
};

static const struct boot_mount late_mounts[] = {
	{ "devpts", "/dev/pts", MS_NOSUID | MS_NOEXEC, "mode=620,gid=5,ptmxmode=666" },
	{ "tmpfs", "/dev/shm", MS_NOSUID | MS_NODEV, "mode=1777" },
	{ "tmpfs", "/run", MS_NOSUID | MS_NODEV, "mode=755" },
	{ "cgroup2", "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC, "nsdelegate" },
};

static int mount_all(const struct boot_mount *mounts, size_t n, struct err *e)
{
	for (size_t i = 0; i < n; i++) {
		const struct boot_mount *m = &mounts[i];

		if (mkdir(m->target, 0755) < 0 && errno != EEXIST)
			return err_errno(e, errno, "make %s", m->target);
		/* EBUSY: a kernel with CONFIG_DEVTMPFS_MOUNT was first. */
		if (mount(m->type, m->target, m->type, m->flags, m->options) < 0 && errno != EBUSY)
			return err_errno(e, errno, "mount %s on %s", m->type, m->target);
	}
	return 0;
}

/* Descriptors 0 to 2 are open afterwards, whatever the kernel could open for us. */
static int open_stdio(void)
{
	for (;;) {
		int fd = open("/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC);

		if (fd < 0)
			fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			return -errno;
		if (fd > STDERR_FILENO) {
			fd_close(&fd);
			return 0;
		}
	}
}

static int parse_word(const char *word, struct boot_config *out)
{
	if (str_starts(word, "viv.root="))
		return str_fit(out->root, sizeof(out->root), "%s", strchr(word, '=') + 1);
	if (str_starts(word, "viv.net="))
		return parse_bool(strchr(word, '=') + 1, &out->net);
	if (streq(word, "viv.debug"))
		out->debug = true;
	if (streq(word, "viv.probe"))
		out->probe = true;
	return 0; /* the kernel's own, or an option of a later version */
}

static int parse_cmdline(struct boot_config *out, struct err *e)
{
	auto_buf text = BUF_INIT(CMDLINE_MAX);
	const char *word;
	char *rest;
	int r = file_read_at(AT_FDCWD, "/proc/cmdline", &text);

	if (r < 0)
		return err_errno(e, -r, "read the kernel command line");
	rest = *buf_str(&text) != '\0' ? buf_head(&text) : NULL;
	while ((word = strsep(&rest, " \n")) != NULL) {
		r = parse_word(word, out);
		if (r < 0)
			return err_errno(e, -r, "kernel command line: %s", word);
	}
	return 0;
}

/* What udev would add to devtmpfs. */
static int make_dev_links(void)
{
	static const struct {
		const char *target;
		const char *path;
	} links[] = {
		{ "/proc/self/fd", "/dev/fd" },
		{ "/proc/self/fd/0", "/dev/stdin" },
		{ "/proc/self/fd/1", "/dev/stdout" },
		{ "/proc/self/fd/2", "/dev/stderr" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(links); i++)
		if (symlink(links[i].target, links[i].path) < 0 && errno != EEXIST)
			return -errno;
	return 0;
}

static int make_sticky_dir(const char *path)
{
	if (mkdir(path, 0755) < 0)
		return errno == EEXIST ? 0 : -errno;
	return chmod(path, 01777) < 0 ? -errno : 0;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	int r;

	if (fd < 0)
		return -errno;
	r = fd_write_all(fd, text, strlen(text));
	fd_close(&fd);
	return r;
}

/* Whether a file is there and has something in it. A dangling link is not there. */
static bool has_content(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && st.st_size > 0;
}

static int write_etc(void)
{
	int r = 0;

	if (mkdir("/etc", 0755) < 0 && errno != EEXIST)
		return -errno;
	if (!has_content("/etc/resolv.conf")) {
		/* It may be a link to where systemd-resolved would write. */
		if (unlink("/etc/resolv.conf") < 0 && errno != ENOENT)
			return -errno;
		r = write_file("/etc/resolv.conf", "nameserver 169.254.0.22\n");
	}
	if (r == 0 && access("/etc/hosts", F_OK) < 0)
		r = write_file("/etc/hosts", "127.0.0.1\tlocalhost\n"
					     "::1\tlocalhost ip6-localhost ip6-loopback\n");
	return r;
}

static int set_limits(void)
{
	const struct rlimit nofile = { .rlim_cur = NOFILE_SOFT, .rlim_max = NOFILE_HARD };

	return setrlimit(RLIMIT_NOFILE, &nofile) < 0 ? -errno : 0;
}

/* What programs expect of a system that runs, beside its disk and its network. */
static int set_up_root(struct err *e)
{
	int r = mount_all(late_mounts, ARRAY_SIZE(late_mounts), e);

	if (r < 0)
		return r;
	r = make_dev_links();
	if (r < 0)
		return err_errno(e, -r, "make links in /dev");
	r = make_sticky_dir("/tmp");
	if (r == 0)
		r = make_sticky_dir("/run/lock");
	if (r < 0)
		return err_errno(e, -r, "make /tmp and /run/lock");
	r = write_etc();
	if (r < 0)
		return err_errno(e, -r, "write /etc/resolv.conf and /etc/hosts");
	r = set_limits();
	return r < 0 ? err_errno(e, -r, "set the limit of open files") : 0;
}

static unsigned ms_between(uint64_t from_ns, uint64_t to_ns)
{
	return (unsigned)((to_ns - from_ns) / NS_PER_MS);
}

int boot_run(struct boot_config *out, struct err *e)
{
	struct boot_config config = { .root = "/dev/vda", .net = true };
	uint64_t at_ns[4] = { clock_now_ns() };
	int r = mount_all(early_mounts, ARRAY_SIZE(early_mounts), e);

	if (r < 0)
		return r;
	r = open_stdio();
	if (r < 0)
		return err_errno(e, -r, "open the console");
	r = parse_cmdline(&config, e);
	if (r == 0)
		r = boot_modules(e);
	if (r == 0 && config.probe) {
		*out = config;
		return 0;
	}
	at_ns[1] = clock_now_ns();
	if (r == 0)
		r = boot_disk(config.root, e);
	if (r == 0)
		r = boot_switch_root(e);
	if (r == 0)
		r = set_up_root(e);
	at_ns[2] = clock_now_ns();
	if (r == 0)
		r = boot_net(config.net, e);
	if (r < 0)
		return r;
	at_ns[3] = clock_now_ns();
	fprintf(stderr, "viv-agent: boot kernel=%ums modules=%ums disk=%ums net=%ums\n",
		ms_between(0, at_ns[0]), ms_between(at_ns[0], at_ns[1]),
		ms_between(at_ns[1], at_ns[2]), ms_between(at_ns[2], at_ns[3]));
	*out = config;
	return 0;
}
