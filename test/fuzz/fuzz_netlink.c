/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The replies of rtnetlink. The first byte chooses the request, the others are the reply: it waits
 * in a socket pair that stands in for the kernel, and the end of the stream follows it.
 */
#include "base/fd.h"
#include "os/link.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int see_link(const struct link_info *link, void *arg)
{
	(void)arg;
	if (strnlen(link->name, sizeof(link->name)) == sizeof(link->name) ||
	    strnlen(link->alias, sizeof(link->alias)) == sizeof(link->alias))
		abort();
	return 0;
}

static int see_addr(const struct link_addr *addr, void *arg)
{
	(void)arg;
	if (addr->prefix_len > 32)
		abort();
	return 0;
}

static int see_route(const struct link_route *route, void *arg)
{
	(void)arg;
	if (route->prefix_len > 32)
		abort();
	return 0;
}

static int ask(int nl, unsigned choice)
{
	switch (choice % 6) {
	case 0:
		return link_list(nl, see_link, NULL);
	case 1:
		return link_list_addrs(nl, see_addr, NULL);
	case 2:
		return link_list_routes(nl, see_route, NULL);
	case 3:
		return link_has_default_route(nl);
	case 4:
		return link_sync(nl, "lo");
	default:
		return link_set_up(nl, "lo");
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int pair[2];
	int r;

	if (size < 2 || socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return 0;
	if (send(pair[1], data + 1, size - 1, MSG_NOSIGNAL) >= 0) {
		shutdown(pair[1], SHUT_WR);
		r = ask(pair[0], data[0]);
		if (r > 1 || r < -4095)
			abort();
	}
	fd_close(&pair[0]);
	fd_close(&pair[1]);
	return 0;
}
