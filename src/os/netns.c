/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Theory of operation
 *
 * A named namespace is an nsfs file bind-mounted over an empty file in /run/netns. The empty file
 * is made exclusively and first: it is what arbitrates between callers. Killed between the two
 * steps, we leave an empty file, which netns_list() shows, netns_open() calls absent and
 * netns_delete() removes. As ip-netns does, /run/netns is made a shared mount of its own, so that
 * names come and go in all mount namespaces; a lock on the directory lets only one caller do that.
 *
 * The namespace of a thread is changed on helper threads only, which block all signals and end with
 * the call. A socket belongs to the namespace it was opened in, so what is needed for longer is
 * opened there.
 */
#include "os/netns.h"

#include "base/dir.h"
#include "base/fd.h"
#include "base/file.h"
#include "base/str.h"
#include "os/link.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/nsfs.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <unistd.h>

#define NETNS_DIR "/run/netns"

enum { NETNS_PATH_SIZE = sizeof(NETNS_DIR) + 1 + 255 };

struct helper {
	int (*fn)(void *arg);
	void *arg;
	int result;
};

static void *helper_main(void *arg)
{
	struct helper *helper = arg;

	helper->result = helper->fn(helper->arg);
	return NULL;
}

static int on_helper_thread(int (*fn)(void *arg), void *arg)
{
	struct helper helper = { .fn = fn, .arg = arg };
	sigset_t all, old;
	pthread_t thread;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&thread, NULL, helper_main, &helper);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r != 0)
		return -r;
	pthread_join(thread, NULL);
	return helper.result;
}

static int netns_path(char path[NETNS_PATH_SIZE], const char *name)
{
	if (name[0] == '\0' || name[0] == '.' || strchr(name, '/') != NULL)
		return -EINVAL;
	return str_fit(path, NETNS_PATH_SIZE, NETNS_DIR "/%s", name);
}

/* Make /run/netns, and a shared mount of it. */
static int prepare_dir(void)
{
	auto_close int dir = -1;
	int r = file_mkdirs(NETNS_DIR);

	if (r < 0)
		return r;
	dir = open(NETNS_DIR, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0 || flock(dir, LOCK_EX) < 0)
		return -errno;
	if (mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) == 0)
		return 0;
	if (errno != EINVAL) /* EINVAL: it is no mount point yet */
		return -errno;
	if (mount(NETNS_DIR, NETNS_DIR, "none", MS_BIND | MS_REC, NULL) < 0)
		return -errno;
	return mount("", NETNS_DIR, "none", MS_SHARED | MS_REC, NULL) < 0 ? -errno : 0;
}

static int new_namespace(void *arg)
{
	const char *path = arg;
	auto_close int nl = -1;
	int r;

	if (unshare(CLONE_NEWNET) < 0)
		return -errno;
	nl = netns_rtnl(-1);
	if (nl < 0)
		return nl;
	r = link_set_up(nl, "lo");
	if (r < 0)
		return r;
	return mount("/proc/thread-self/ns/net", path, "none", MS_BIND, NULL) < 0 ? -errno : 0;
}

int netns_create(const char *name, struct err *e)
{
	char path[NETNS_PATH_SIZE];
	auto_close int fd = -1;
	int r = netns_path(path, name);

	if (r < 0)
		return err_errno(e, -r, "name a network namespace \"%s\"", name);
	r = prepare_dir();
	if (r < 0)
		return err_errno(e, -r, "make %s a shared mount", NETNS_DIR);
	fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0);
	if (fd < 0 && errno == EEXIST)
		return -EEXIST;
	if (fd < 0)
		return err_errno(e, errno, "create %s", path);
	r = on_helper_thread(new_namespace, path);
	if (r < 0) {
		ignore_err(unlink(path)); /* a leftover is found by netns_list() */
		return err_errno(e, -r, "create network namespace %s", name);
	}
	return 0;
}

int netns_open(const char *name)
{
	char path[NETNS_PATH_SIZE];
	auto_close int fd = -1;
	int r = netns_path(path, name);

	if (r < 0)
		return r;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, NS_GET_NSTYPE) != CLONE_NEWNET)
		return -ENOENT;
	return take_fd(&fd);
}

int netns_delete(const char *name)
{
	char path[NETNS_PATH_SIZE];
	int r = netns_path(path, name);

	if (r < 0)
		return r;
	/* EINVAL: a file that never got its namespace, or lost it by a reboot */
	if (umount2(path, MNT_DETACH) < 0 && errno != EINVAL && errno != ENOENT)
		return -errno;
	return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
}

int netns_list(int (*fn)(const char *name, void *arg), void *arg)
{
	auto_dir *dir = NULL;
	const struct dirent *entry;
	int r = dir_open_at(AT_FDCWD, NETNS_DIR, 0, &dir);

	if (r == -ENOENT)
		return 0;
	while (r >= 0 && (r = dir_next(dir, &entry)) > 0) {
		if (entry->d_name[0] != '.')
			r = fn(entry->d_name, arg);
	}
	return r;
}

struct call {
	int netns_fd;
	int (*fn)(void *arg);
	void *arg;
};

static int call_inside(void *arg)
{
	const struct call *call = arg;

	if (setns(call->netns_fd, CLONE_NEWNET) < 0)
		return -errno;
	return call->fn(call->arg);
}

int netns_call(int netns_fd, int (*fn)(void *arg), void *arg)
{
	struct call call = { .netns_fd = netns_fd, .fn = fn, .arg = arg };

	return on_helper_thread(call_inside, &call);
}

static int open_rtnl(void *arg)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int on = 1;

	(void)arg;
	if (fd < 0)
		return -errno;
	/* only shortens the kernel's answers */
	ignore_err(setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof(on)));
	return fd;
}

int netns_rtnl(int netns_fd)
{
	return netns_fd < 0 ? open_rtnl(NULL) : netns_call(netns_fd, open_rtnl, NULL);
}

struct tap {
	const char *name;
	const unsigned char *mac;
};

static int open_tap(void *arg)
{
	const struct tap *tap = arg;
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	auto_close int fd = -1;
	int r = str_fit(ifr.ifr_name, sizeof(ifr.ifr_name), "%s", tap->name);

	if (r < 0)
		return r;
	/* a tun file belongs to the namespace it was opened in */
	fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, TUNSETIFF, &ifr) < 0)
		return -errno;
	ifr = (struct ifreq){ .ifr_hwaddr.sa_family = ARPHRD_ETHER };
	memcpy(ifr.ifr_hwaddr.sa_data, tap->mac, 6);
	if (ioctl(fd, SIOCSIFHWADDR, &ifr) < 0)
		return -errno;
	return take_fd(&fd);
}

int netns_tap(int netns_fd, const char *name, const unsigned char mac[6])
{
	struct tap tap = { .name = name, .mac = mac };

	return netns_call(netns_fd, open_tap, &tap);
}
