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

static int give_to_group(const char *path, struct err *e)
{
	const struct group *group = getgrnam(socket_group);

	if (group != NULL && chown(path, 0, group->gr_gid) < 0)
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
