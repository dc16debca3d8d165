/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/listen.h"

#include "base/fd.h"
#include "base/str.h"

#include <errno.h>
#include <grp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static const char socket_group[] = "vivarium";

enum { SOCKET_MODE = 0660 };

/* Under a name of its own until owner and mode are right: nobody gets in in between. */
static int bind_private(int fd, const char *path, struct sockaddr_un *addr, struct err *e)
{
	if (str_fit(addr->sun_path, sizeof(addr->sun_path), "%s.new", path) < 0)
		return err_set(e, ERR_INVALID, "socket path %s is too long: at most %zu characters",
			       path, sizeof(addr->sun_path) - sizeof(".new"));
	if (unlink(addr->sun_path) < 0 && errno != ENOENT)
		return err_errno(e, errno, "remove old socket %s", addr->sun_path);
	if (fchmod(fd, 0600) < 0 || bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0)
		return err_errno(e, errno, "bind socket %s", addr->sun_path);
	return 0;
}

static void close_file(FILE **f)
{
	if (*f != NULL)
		fclose(*f);
}

/* From /etc/group itself: the name service would load libraries that stay in memory for ever. */
static bool find_group(gid_t *out)
{
	cleanup(close_file) FILE *f = fopen("/etc/group", "re");
	const struct group *group;

	while (f != NULL && (group = fgetgrent(f)) != NULL) {
		if (streq(group->gr_name, socket_group)) {
			*out = group->gr_gid;
			return true;
		}
	}
	return false;
}

static int give_to_group(const char *path, struct err *e)
{
	gid_t gid;

	if (find_group(&gid) && chown(path, 0, gid) < 0)
		return err_errno(e, errno, "give socket %s to group %s", path, socket_group);
	if (chmod(path, SOCKET_MODE) < 0)
		return err_errno(e, errno, "set mode of socket %s", path);
	return 0;
}

int listen_unix(const char *path, struct err *e)
{
	auto_close int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int r;

	if (fd < 0)
		return err_errno(e, errno, "make a unix socket");
	r = bind_private(fd, path, &addr, e);
	if (r == 0)
		r = give_to_group(addr.sun_path, e);
	if (r < 0)
		return r;
	if (listen(fd, SOMAXCONN) < 0)
		return err_errno(e, errno, "listen on socket %s", path);
	if (rename(addr.sun_path, path) < 0)
		return err_errno(e, errno, "put socket %s in place", path);
	return take_fd(&fd);
}

int listen_tcp(struct address *address, struct err *e)
{
	struct sockaddr *to = &address->u.any;
	auto_close int fd =
		socket(to->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP);
	char text[ADDRESS_TEXT_SIZE];
	int on = 1;

	address_print(address, text);
	if (fd < 0)
		return err_errno(e, errno, "make a TCP socket for %s", text);
	/* A daemon that follows another gets the port at once; and [::] is IPv6 alone. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 ||
	    (to->sa_family == AF_INET6 &&
	     setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) < 0))
		return err_errno(e, errno, "set up the TCP socket for %s", text);
	if (bind(fd, to, address->len) < 0)
		return err_errno(e, errno, "bind TCP address %s", text);
	if (listen(fd, SOMAXCONN) < 0)
		return err_errno(e, errno, "listen on TCP address %s", text);
	if (getsockname(fd, to, &address->len) < 0)
		return err_errno(e, errno, "ask for the address of the TCP socket");
	return take_fd(&fd);
}
