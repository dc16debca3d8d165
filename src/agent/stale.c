/* SPDX-License-Identifier: Apache-2.0 */
#include "agent/stale.h"

#include "base/fd.h"
#include "base/guestwords.h"
#include "base/vec.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

enum { REPLY_BYTES = 32768 };

struct request {
	struct nlmsghdr head;
	struct inet_diag_req_v2 body;
};

struct connection {
	uint8_t family;
	struct inet_diag_sockid id;
};
VEC_DEFINE(connections, struct connection)

static bool is_loopback(uint8_t family, const uint32_t address[4])
{
	struct in6_addr six;

	if (family == AF_INET)
		return (ntohl(address[0]) >> 24) == 127;
	memcpy(&six, address, sizeof(six));
	if (IN6_IS_ADDR_V4MAPPED(&six))
		return (ntohl(address[3]) >> 24) == 127;
	return IN6_IS_ADDR_LOOPBACK(&six);
}

static bool is_stale(const struct inet_diag_msg *m)
{
	return !is_loopback(m->idiag_family, m->id.idiag_dst) &&
	       memcmp(m->id.idiag_src, m->id.idiag_dst, sizeof(m->id.idiag_src)) != 0 &&
	       ntohs(m->id.idiag_sport) != GUEST_PORT;
}

static int send_request(int fd, uint16_t type, uint16_t flags, const struct connection *c,
			uint32_t states)
{
	struct request r = {
		.head = { .nlmsg_len = sizeof(r),
			  .nlmsg_type = type,
			  .nlmsg_flags = NLM_F_REQUEST | flags },
		.body = { .sdiag_family = c->family,
			  .sdiag_protocol = IPPROTO_TCP,
			  .idiag_states = states,
			  .id = c->id },
	};

	return send(fd, &r, sizeof(r), 0) < 0 ? -errno : 0;
}

/* Takes one message; not const, since NLMSG_DATA() would cast that away.
 * Return: 1 the answer goes on; 0 it is complete; -errno. */
static int take(struct nlmsghdr *h, struct connections *out)
{
	const struct inet_diag_msg *m = NLMSG_DATA(h);

	if (h->nlmsg_type == NLMSG_DONE)
		return 0;
	if (h->nlmsg_type == NLMSG_ERROR)
		return ((struct nlmsgerr *)NLMSG_DATA(h))->error;
	if (out != NULL && h->nlmsg_len >= NLMSG_LENGTH(sizeof(*m)) && is_stale(m))
		connections_push(out, (struct connection){ m->idiag_family, m->id });
	return 1;
}

static int read_answer(int fd, struct connections *out)
{
	static char reply[REPLY_BYTES] __attribute__((aligned(8)));
	int r = 1;

	while (r > 0) {
		ssize_t got = recv(fd, reply, sizeof(reply), 0);
		size_t n = got < 0 ? 0 : (size_t)got;

		if (got < 0)
			return -errno;
		for (struct nlmsghdr *h = (void *)reply; r > 0 && NLMSG_OK(h, n);
		     h = NLMSG_NEXT(h, n))
			r = take(h, out);
	}
	return r;
}

static int list(int fd, uint8_t family, struct connections *out)
{
	/* A listener has no other end; one that waits out its time ends by itself. */
	const uint32_t states = ~(1U << TCP_LISTEN | 1U << TCP_CLOSE | 1U << TCP_TIME_WAIT) & 0xfff;
	const struct connection any = { .family = family };
	int r = send_request(fd, SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, &any, states);

	return r < 0 ? r : read_answer(fd, out);
}

/* One that ended meanwhile is as good. */
static int destroy(int fd, const struct connection *c)
{
	int r = send_request(fd, SOCK_DESTROY, NLM_F_ACK, c, ~0U);

	if (r == 0)
		r = read_answer(fd, NULL);
	return r == -ENOENT ? 0 : r;
}

int stale_reset(void)
{
	auto_close int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	cleanup(connections_done) struct connections stale = { 0 };
	int r = fd < 0 ? -errno : list(fd, AF_INET, &stale);

	if (r == 0)
		r = list(fd, AF_INET6, &stale);
	vec_foreach (c, &stale) {
		if (r == 0)
			r = destroy(fd, c);
	}
	return r;
}
