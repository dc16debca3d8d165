/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/listen.h"

#include "base/fd.h"
#include "base/parse.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { LISTEN_BACKLOG = 128 };

static const char unix_prefix[] = "unix:";

/*
 * Has a socket take nothing that came over the loopback. That it is bound to a device is not
 * enough: who connects to the device's address from this machine counts as coming from there.
 */
static int refuse_loopback(int fd)
{
	enum { LO_INDEX = 1 }; /* in each network namespace */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (unsigned)SKF_AD_OFF + SKF_AD_IFINDEX),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, LO_INDEX, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	const struct sock_fprog program = { .len = ARRAY_SIZE(code), .filter = code };

	return setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static int listen_at(const struct sockaddr *addr, socklen_t len, const char *device)
{
	auto_close int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const int on = 1;

	if (fd < 0)
		return -errno;
	if (addr->sa_family == AF_INET &&
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
		return -errno;
	if (device != NULL && (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device,
					  (socklen_t)strlen(device) + 1) < 0 ||
			       refuse_loopback(fd) < 0))
		return -errno;
	if (bind(fd, addr, len) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		return -errno;
	return take_fd(&fd);
}

int listen_tcp_any(uint16_t port, const char *device, struct err *e)
{
	const struct sockaddr_in addr = { .sin_family = AF_INET, .sin_port = htons(port) };
	int fd = listen_at((const struct sockaddr *)&addr, sizeof(addr), device);

	if (fd < 0)
		return err_errno(e, -fd, "listen on port %u of %s", port,
				 device != NULL ? device : "all interfaces");
	return fd;
}

static int parse_inet(const char *where, struct sockaddr_in *out)
{
	char host[INET_ADDRSTRLEN];
	const char *colon = strrchr(where, ':');
	uint64_t port;

	if (colon == NULL || parse_u64(colon + 1, 0, UINT16_MAX, &port) < 0 ||
	    str_fit(host, sizeof(host), "%.*s", (int)(colon - where), where) < 0)
		return -EINVAL;
	*out = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	return inet_pton(AF_INET, host, &out->sin_addr) == 1 ? 0 : -EINVAL;
}

int listen_open(const char *where, struct err *e)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in in;
	int fd;

	if (str_starts(where, unix_prefix)) {
		if (str_fit(un.sun_path, sizeof(un.sun_path), "%s", where + strlen(unix_prefix)) <
		    0)
			return err_set(e, ERR_INVALID, "the path of %s is too long", where);
		fd = listen_at((const struct sockaddr *)&un, sizeof(un), NULL);
	} else if (parse_inet(where, &in) == 0) {
		fd = listen_at((const struct sockaddr *)&in, sizeof(in), NULL);
	} else {
		return err_set(e, ERR_INVALID, "'%s' is neither ADDR:PORT nor unix:PATH", where);
	}
	if (fd < 0)
		return err_errno(e, -fd, "listen on %s", where);
	return fd;
}

void listen_announce(int fd, const char *where, FILE *out)
{
	struct sockaddr_in in = { 0 };
	socklen_t len = sizeof(in);
	char host[INET_ADDRSTRLEN];

	if (!str_starts(where, unix_prefix) && getsockname(fd, (struct sockaddr *)&in, &len) == 0 &&
	    inet_ntop(AF_INET, &in.sin_addr, host, sizeof(host)) != NULL)
		fprintf(out, "listening on %s:%u\n", host, ntohs(in.sin_port));
	else
		fprintf(out, "listening on %s\n", where);
	fflush(out);
}
